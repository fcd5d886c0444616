//! Bodies that are not valid requests: too large, too deep, not JSON, not text.

use serde_json::{Value, json};

use super::Attack;

const UNSUPPORTED: &str = "UNSUPPORTED_REQUEST";
const QUERY: &str = "{ viewer { id } }";

fn nested(open: &str, inside: &str, close: &str) -> Vec<u8> {
    format!("{{\"query\":\"{QUERY}\",\"variables\":{{\"a\":{open}{inside}{close}}}}}").into()
}

pub fn all() -> Vec<Attack> {
    let attack = |name, body: Vec<u8>| Attack { name, body, status: 400, code: UNSUPPORTED };
    let quoted = |inside: &[u8]| [b"{\"query\":\"".as_slice(), inside, b"\"}"].concat();
    let batch = |operations: Vec<Value>| Value::Array(operations).to_string().into_bytes();
    let one = json!({ "query": QUERY });
    let too_large = |name, body: Vec<u8>| Attack { status: 413, ..attack(name, body) };
    vec![
        attack("variables 100,000 deep", nested(&"[".repeat(100_000), "", &"]".repeat(100_000))),
        attack("objects 100,000 deep", nested(&"{\"a\":".repeat(100_000), "1", &"}".repeat(100_000))),
        attack("a body of open lists", b"[".repeat(1_000_000)),
        attack("a body of open objects", b"{\"a\":".repeat(200_000)),
        attack("extensions 100,000 deep", format!("{{\"extensions\":{}", "{\"a\":".repeat(100_000)).into()),
        attack("an unterminated string", [b"\"".to_vec(), b"a".repeat(1_000_000)].concat()),
        attack("a million digits", b"9".repeat(1_000_000)),
        attack("1e400", nested("", "1e400", "")),
        attack("an exponent of a million digits", nested("", &format!("1e{}", "9".repeat(900_000)), "")),
        attack("no UTF-8", quoted(b"{ viewer { id } } # \xff\xfe")),
        attack("an overlong encoding", quoted(b"{ viewer { id } } # \xc0\xaf")),
        attack("half a surrogate pair", quoted(b"{ viewer { id } } # \\ud83d")),
        attack("surrogates in UTF-8", quoted(b"{ viewer { id } } # \xed\xa0\xbd")),
        attack("a bare NUL", quoted(b"{ viewer { id } }\0")),
        attack("NULs", vec![0; 1_000_000]),
        attack("UTF-16", "{\"query\":\"{ viewer { id } }\"}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        attack("trailing text", b"{\"query\":\"{ viewer { id } }\"}{}".to_vec()),
        attack("a trailing comma", b"{\"query\":\"{ viewer { id } }\",}".to_vec()),
        attack("NaN", nested("", "NaN", "")),
        attack("the query twice", format!("{{\"query\":\"{QUERY}\",\"query\":\"{{ organization {{ id }} }}\"}}").into()),
        attack("a variable twice", format!("{{\"query\":\"{QUERY}\",\"variables\":{{\"a\":1,\"a\":2}}}}").into()),
        attack("a batch of 11", batch(vec![one.clone(); 11])),
        attack("a batch of 9,000", batch(vec![one.clone(); 9_000])),
        attack("an empty batch", batch(vec![Value::Null; 19_000])),
        too_large("an empty batch with spaces", batch(vec![Value::Null; 200_000])),
        attack("a long operation name", json!({ "query": 7, "operationName": "o".repeat(900_000) }).to_string().into()),
        attack("a long hash", json!({ "extensions": { "persistedQuery": { "version": "v".repeat(900_000), "sha256Hash": 1 } } }).to_string().into()),
        too_large("a list of a million", nested("[", &vec!["1"; 500_000].join(","), "]")),
        too_large("a list of empty objects", nested("[", &vec!["{\"\":0}"; 120_000].join(","), "]")),
        too_large("a list as the body", format!("[{}]", vec!["{\"\":0}"; 120_000].join(",")).into()),
        too_large("more than a mebibyte", quoted(&b" ".repeat(1024 * 1024))),
        Attack { code: "PERSISTED_QUERY_NOT_FOUND", ..attack("an unknown long hash", json!({ "documentId": "h".repeat(900_000) }).to_string().into()) },
        Attack { code: "GRAPHQL_VALIDATION_FAILED", ..attack("an unknown long operation", json!({ "query": QUERY, "operationName": "o".repeat(900_000) }).to_string().into()) },
    ]
}
