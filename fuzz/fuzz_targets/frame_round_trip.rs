//! Messages of every kind, made up from the input: what is written is read back as it was, alone and as a frame among others. And the other way round: a body that a
//! peer made is, once read, written in the one spelling that reads as the same.
#![no_main]

use doorward::key::FunctionName;
use doorward::protocol::{
    Address, BATCH_REQUESTS, Decoded, Failure, Hello, Kind, MAX_BODY_BYTES, Response, Verify, Welcome, batch_requests, batch_responses,
    decode, decode_body, encode, encode_body,
};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// What was read is written in the shortest spelling, and that is read as the same.
macro_rules! respell {
    ($body:expr, $($message:ty),*) => { $(
        if let Ok(message) = decode_body::<$message>($body) {
            let mut spelled = Vec::new();
            encode_body(&mut spelled, &message);
            assert!(spelled.len() <= $body.len());
            assert_eq!(decode_body::<$message>(&spelled), Ok(message));
        }
    )* };
}

fuzz_target!(|bytes: &[u8]| {
    respell!(bytes, Hello, Verify<'_>, Welcome<'_>, Response<'_>, Failure<'_>);
    // Input that has run out ends a message, and that is no fault.
    let _ = write_and_read(&mut Unstructured::new(bytes));
});

fn write_and_read(u: &mut Unstructured<'_>) -> Result<()> {
    let mut stream = Vec::new();
    let mut kinds = Vec::new();
    while !u.is_empty() && kinds.len() < 8 {
        let tag = u.arbitrary()?;
        let kind = *u.choose(&[Kind::Hello, Kind::Verify, Kind::Batch, Kind::Welcome, Kind::Verdict, Kind::Verdicts, Kind::Error])?;
        let body = match kind {
            Kind::Hello => {
                let hello = Hello { magic: u.arbitrary()?, lowest: u.arbitrary()?, highest: u.arbitrary()? };
                written(|out| encode_body(out, &hello), |body| assert_eq!(decode_body(body), Ok(hello)))
            }
            Kind::Verify => {
                let request = request(u)?;
                written(
                    |out| encode_body(out, &request),
                    |body| {
                        assert_eq!(Verify::decode(body), Ok(request));
                        assert_eq!(decode_body(body), Ok(request));
                    },
                )
            }
            Kind::Batch => {
                let requests = (0..u.int_in_range(1..=BATCH_REQUESTS)?).map(|_| request(u)).collect::<Result<Vec<_>>>()?;
                let mut body = vec![requests.len() as u8];
                requests.iter().for_each(|request| encode_body(&mut body, request));
                let read: Vec<_> = batch_requests(&body).expect("a batch").collect();
                assert_eq!(read, requests);
                body
            }
            Kind::Welcome => {
                let (version, batch_requests, max_body_bytes) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
                let welcome = Welcome { version, batch_requests, max_body_bytes, server: text(u, 250)? };
                written(|out| encode_body(out, &welcome), |body| assert_eq!(decode_body(body), Ok(welcome)))
            }
            Kind::Verdict => {
                let response = response(u)?;
                written(
                    |out| encode_body(out, &response),
                    |body| {
                        assert_eq!(decode_body(body), Ok(response));
                        let mut by_hand = Vec::new();
                        response.encode(&mut by_hand);
                        assert_eq!(by_hand, body);
                    },
                )
            }
            Kind::Verdicts => {
                let responses = (0..u.int_in_range(0..=BATCH_REQUESTS)?).map(|_| response(u)).collect::<Result<Vec<_>>>()?;
                let mut body = vec![responses.len() as u8];
                responses.iter().for_each(|response| response.encode(&mut body));
                assert_eq!(batch_responses(&body), Ok(responses));
                body
            }
            Kind::Error => {
                let failure = Failure { code: u.arbitrary()?, closes: u.arbitrary()?, message: text(u, 250)? };
                written(|out| encode_body(out, &failure), |body| assert_eq!(decode_body(body), Ok(failure)))
            }
        };
        assert!(body.len() <= MAX_BODY_BYTES, "the stated limit holds every message");
        encode(&mut stream, kind, tag, |out| out.extend_from_slice(&body));
        kinds.push((kind, tag, body));
    }
    let mut rest = &stream[..];
    for (kind, tag, body) in &kinds {
        let Ok(Decoded::Whole(frame, used)) = decode(rest) else { panic!("a frame that was written is not read") };
        assert_eq!((frame.kind, frame.tag, frame.body), (*kind, *tag, &body[..]));
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    Ok(())
}

fn written(write: impl FnOnce(&mut Vec<u8>), check: impl FnOnce(&[u8])) -> Vec<u8> {
    let mut body = Vec::new();
    write(&mut body);
    check(&body);
    body
}

fn request<'u>(u: &mut Unstructured<'u>) -> Result<Verify<'u>> {
    let length = u.int_in_range(0..=250)?;
    let token = u.bytes(length.min(u.len()))?;
    let length = u.int_in_range(1..=128)?;
    let function = u.bytes(length.min(u.len()))?;
    let function = if FunctionName::is_valid(function) { std::str::from_utf8(function).expect("the grammar is ASCII") } else { "f" };
    let address = match u.int_in_range(0..=2)? {
        0 => Address::None,
        1 => Address::V4(u.arbitrary()?),
        _ => Address::V6(u.arbitrary()?),
    };
    Ok(Verify { token, function, address })
}

fn response<'u>(u: &mut Unstructured<'u>) -> Result<Response<'u>> {
    Ok(Response {
        verdict: u.arbitrary()?,
        flags: u.arbitrary()?,
        version: u.arbitrary()?,
        key_id: u.arbitrary()?,
        expires_at: u.arbitrary()?,
        retires_at: u.arbitrary()?,
        account: text(u, doorward::key::limits::ACCOUNT_BYTES)?,
    })
}

/// A text of at most so many bytes.
fn text<'u>(u: &mut Unstructured<'u>, most: usize) -> Result<&'u str> {
    let length = u.int_in_range(0..=most)?;
    let bytes = u.bytes(length.min(u.len()))?;
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid so far"),
    })
}
