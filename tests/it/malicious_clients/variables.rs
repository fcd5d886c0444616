//! GraphQL documents that become too large only through their variables, or whose variables do not
//! fit.

use serde_json::{Value, json};

use super::{
    Attack,
    documents::{INVALID, TOO_COMPLEX, numbered},
};

fn with_variables() -> Vec<(&'static str, String, Value, &'static str)> {
    let pages = format!(
        "query ($n: Int!) {{ organization {{ {} }} }}",
        numbered(30, |n| format!(
            "p{n}: projects(first: $n) {{ nodes {{ id name description createdAt }} }}"
        ))
    );
    let node = "query ($id: ID!) { node(id: $id) { id } }".to_owned();
    let create = "mutation ($input: CreateProjectInput!) { createProject(input: $input) { project { id } } }";
    let first =
        "query ($n: Int!) { organization { projects(first: $n) { totalCount } } }".to_owned();
    let unknown: serde_json::Map<_, _> =
        (0..9_000).map(|n| (format!("unknown{n}"), json!(n))).collect();
    vec![
        ("pages by variables", pages, json!({ "n": 100 }), TOO_COMPLEX),
        (
            "an object for an id",
            node.clone(),
            json!({ "id": { "a": "x".repeat(900_000) } }),
            INVALID,
        ),
        ("a list for an id", node.clone(), json!({ "id": vec!["x"; 9_000] }), INVALID),
        ("9,000 unknown variables", node, Value::Object(unknown.clone()), INVALID),
        ("a long text for a number", first.clone(), json!({ "n": "9".repeat(900_000) }), INVALID),
        ("2^31", first.clone(), json!({ "n": 2_147_483_648_i64 }), INVALID),
        ("2^63", first.clone(), json!({ "n": u64::MAX }), INVALID),
        ("1e300", first, json!({ "n": 1e300 }), INVALID),
        (
            "9,000 unknown fields of an input",
            create.to_owned(),
            json!({ "input": unknown }),
            INVALID,
        ),
        (
            "a long field of an input",
            create.to_owned(),
            json!({ "input": { "name": "x", "y".repeat(900_000): 1 } }),
            INVALID,
        ),
        ("a long variable", create.to_owned(), json!({ "z".repeat(900_000): 1 }), INVALID),
        (
            "a field of two types",
            create.to_owned(),
            json!({ "input": { "name": ["x".repeat(100_000)] } }),
            INVALID,
        ),
    ]
}

pub fn all() -> Vec<Attack> {
    let attack = |(name, text, variables, code)| {
        let body = json!({ "query": text, "variables": variables }).to_string().into();
        Attack { name, body, status: 400, code }
    };
    with_variables().into_iter().map(attack).collect()
}
