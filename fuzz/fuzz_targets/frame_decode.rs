//! Bytes from a stranger, as the verify socket and the client read them: whatever is accepted means one thing, and is written back byte by byte.
#![no_main]

use doorward::protocol::{
    BATCH_REQUESTS, Decoded, Failure, Frame, HEADER_BYTES, Hello, Kind, MAX_BODY_BYTES, Response, Verify, Welcome, batch_requests,
    batch_responses, decode, decode_body, encode, encode_body,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Decoded::Whole(frame, used)) = decode(rest) {
        assert!((HEADER_BYTES..=HEADER_BYTES + MAX_BODY_BYTES).contains(&used) && frame.body.len() == used - HEADER_BYTES);
        read_body(&frame);
        let mut again = Vec::new();
        encode(&mut again, frame.kind, frame.tag, |out| out.extend_from_slice(frame.body));
        assert_eq!(again, &rest[..used], "a frame has one spelling");
        for cut in [0, HEADER_BYTES - 1, HEADER_BYTES, used - 1] {
            let beginning = decode(&rest[..cut.min(used - 1)]);
            assert!(matches!(beginning, Ok(Decoded::Partial(needed)) if needed <= used), "a beginning is partial, never wrong");
        }
        rest = &rest[used..];
    }
});

fn read_body(frame: &Frame<'_>) {
    match frame.kind {
        Kind::Hello => drop(decode_body::<Hello>(frame.body)),
        Kind::Verify => {
            if let Ok(request) = Verify::decode(frame.body) {
                let mut again = Vec::new();
                encode_body(&mut again, &request);
                assert_eq!(again, frame.body, "a request has one spelling");
            }
        }
        Kind::Batch => {
            if let Ok(requests) = batch_requests(frame.body) {
                let mut again = vec![frame.body[0]];
                requests.for_each(|request| encode_body(&mut again, &request));
                assert_eq!(again, frame.body, "all the requests that were counted, and nothing else");
                assert!(usize::from(again[0]) <= BATCH_REQUESTS);
            }
        }
        Kind::Welcome => drop(decode_body::<Welcome<'_>>(frame.body)),
        Kind::Verdict => drop(decode_body::<Response<'_>>(frame.body).map(|response| response.verdict())),
        Kind::Verdicts => drop(batch_responses(frame.body)),
        Kind::Error => drop(decode_body::<Failure<'_>>(frame.body)),
    }
}
