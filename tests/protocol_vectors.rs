//! The golden vectors of `testdata/protocol/`, which every client is held against, hold for this implementation too.
//! They were written by another encoder, from `docs/protocol.md`.

use std::net::IpAddr;

use doorward::protocol::{
    Decoded, Failure, Hello, Kind, MAGIC, Response, Verify, Welcome, batch_requests, batch_responses, decode, decode_body, encode,
    encode_body,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../testdata/protocol/vectors.json")).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn request<'v>(fields: &'v Value, token: &'v [u8]) -> Verify<'v> {
    let address: Option<IpAddr> = fields["address"].as_str().map(|address| address.parse().unwrap());
    Verify { token, function: fields["function"].as_str().unwrap(), address: address.into() }
}

fn response(fields: &Value) -> Response<'_> {
    Response {
        verdict: number(&fields["verdict"]) as u8,
        flags: number(&fields["flags"]) as u8,
        version: (number(&fields["version"]) as u16).to_le_bytes(),
        key_id: bytes(&fields["key_id"]).try_into().unwrap(),
        expires_at: number(&fields["expires_at"]).to_le_bytes(),
        retires_at: number(&fields["retires_at"]).to_le_bytes(),
        account: fields["account"].as_str().unwrap(),
    }
}

#[test]
fn every_frame_is_written_as_its_vector() {
    for vector in vectors()["frames"].as_array().unwrap() {
        let tag = bytes(&vector["tag"]).try_into().unwrap();
        let mut out = Vec::new();
        match vector["kind"].as_str().unwrap() {
            "hello" => {
                let hello = Hello { magic: MAGIC, lowest: number(&vector["lowest"]) as u8, highest: number(&vector["highest"]) as u8 };
                encode(&mut out, Kind::Hello, tag, |out| encode_body(out, &hello));
            }
            "welcome" => {
                let welcome = Welcome {
                    version: number(&vector["version"]) as u8,
                    batch_requests: number(&vector["batch_requests"]) as u8,
                    max_body_bytes: (number(&vector["max_body_bytes"]) as u32).to_le_bytes(),
                    server: vector["server"].as_str().unwrap(),
                };
                encode(&mut out, Kind::Welcome, tag, |out| encode_body(out, &welcome));
            }
            "verify" => {
                let token = bytes(&vector["request"]["token_hex"]);
                encode(&mut out, Kind::Verify, tag, |out| encode_body(out, &request(&vector["request"], &token)));
            }
            "batch" => encode(&mut out, Kind::Batch, tag, |out| {
                let requests = vector["requests"].as_array().unwrap();
                out.push(requests.len() as u8);
                requests.iter().for_each(|fields| encode_body(out, &request(fields, &bytes(&fields["token_hex"]))));
            }),
            "verdict" => encode(&mut out, Kind::Verdict, tag, |out| encode_body(out, &response(&vector["response"]))),
            "verdicts" => encode(&mut out, Kind::Verdicts, tag, |out| {
                let responses = vector["responses"].as_array().unwrap();
                out.push(responses.len() as u8);
                responses.iter().for_each(|fields| encode_body(out, &response(fields)));
            }),
            "error" => {
                let (code, closes) = (number(&vector["code"]) as u8, number(&vector["closes"]) as u8);
                let failure = Failure { code, closes, message: vector["message"].as_str().unwrap() };
                encode(&mut out, Kind::Error, tag, |out| encode_body(out, &failure));
            }
            other => panic!("{other}"),
        }
        assert_eq!(out, bytes(&vector["hex"]), "{}", vector["name"]);
    }
}

#[test]
fn every_vector_is_read_as_its_fields() {
    for vector in vectors()["frames"].as_array().unwrap() {
        let hex = bytes(&vector["hex"]);
        let Ok(Decoded::Whole(frame, used)) = decode(&hex) else { panic!("{}", vector["name"]) };
        assert_eq!((used, frame.tag.to_vec()), (hex.len(), bytes(&vector["tag"])));
        match frame.kind {
            Kind::Hello => assert_eq!(decode_body::<Hello>(frame.body).unwrap().magic, MAGIC),
            Kind::Welcome => assert_eq!(decode_body::<Welcome<'_>>(frame.body).unwrap().server, vector["server"]),
            Kind::Verify => {
                let token = bytes(&vector["request"]["token_hex"]);
                assert_eq!(Verify::decode(frame.body), Ok(request(&vector["request"], &token)));
            }
            Kind::Batch => {
                let requests = vector["requests"].as_array().unwrap();
                let read: Vec<_> = batch_requests(frame.body).unwrap().collect();
                assert_eq!(read.len(), requests.len());
                for (read, fields) in read.iter().zip(requests) {
                    assert_eq!(*read, request(fields, &bytes(&fields["token_hex"])));
                }
            }
            Kind::Verdict => assert_eq!(decode_body(frame.body), Ok(response(&vector["response"]))),
            Kind::Verdicts => {
                let expected: Vec<_> = vector["responses"].as_array().unwrap().iter().map(response).collect();
                assert_eq!(batch_responses(frame.body), Ok(expected));
            }
            Kind::Error => assert_eq!(decode_body::<Failure<'_>>(frame.body).unwrap().message, vector["message"]),
        }
    }
}
