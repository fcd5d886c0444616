//! What the errors of invalid documents and variables say, and the place that they name.

use std::sync::Arc;

use crate::graphql::{
    document::{
        Document, Operation,
        tests::{LIMITS, SDL},
    },
    limits::Refusal,
    validation::Validator,
};

fn read_with(query: &str, variables: &serde_json::Value) -> Result<Document, Vec<Refusal>> {
    let validator = Validator::new(SDL, true).unwrap();
    let operation = Operation::read(query, None, &LIMITS, &validator)?;
    Document::new(Arc::new(operation), &validator, variables.as_object().unwrap().clone())
}

fn read(query: &str) -> Result<Document, Vec<Refusal>> {
    read_with(query, &serde_json::json!({}))
}

#[track_caller]
fn first(query: &str) -> (String, (usize, usize)) {
    let refusals = read(query).unwrap_err();
    let places: Vec<_> = refusals.iter().map(|refusal| refusal.location).collect();
    assert!(places.iter().all(Option::is_some), "{query}: {refusals:?}");
    (refusals[0].message.clone(), places[0].unwrap())
}

#[test]
fn an_unknown_field_is_reported_alone_with_what_was_meant() {
    for (query, place, message) in [
        (
            "{ n { ... on Two { rol } } }",
            (1, 20),
            "Cannot query field \"rol\" on type \"Two\". Did you mean \"role\"?",
        ),
        (
            "query ($v: String, $w: Int) { a(s: $v) { b(c: $w, d: $e) { f } } }",
            (1, 42),
            "Cannot query field \"b\" on type \"Query\". Did you mean \"a\", \"n\", or \"x\"?",
        ),
        (
            "subscription { addd { id } }",
            (1, 16),
            "Cannot query field \"addd\" on type \"Subscription\". Did you mean \"added\"?",
        ),
        ("{ nothing }", (1, 3), "Cannot query field \"nothing\" on type \"Query\"."),
        (
            "{ n { id { x } } }",
            (1, 7),
            "Field \"id\" must not have a selection since type \"ID\" has no subfields",
        ),
        ("query ($a: Foo) { x }", (1, 8), "Unknown type \"Foo\"."),
    ] {
        assert_eq!(first(query), (message.to_owned(), place), "{query}");
        assert_eq!(read(query).unwrap_err().len(), 1, "{query}");
    }
    let hidden = Validator::new(SDL, false).unwrap();
    let refused = Operation::read("{ xx }", None, &LIMITS, &hidden).unwrap_err();
    assert_eq!(refused[0].message, "Cannot query field \"xx\" on type \"Query\".");
}

#[test]
fn every_invalid_document_has_a_place() {
    for query in [
        "",
        "{",
        "{ x ",
        "{ x } }",
        "query { x(",
        "{ \"a }",
        "{ 1 }",
        "{ x(a:) }",
        "# nothing",
        "{ x } { x }",
        "query A { x } query A { x }",
        "type A { a: Int }",
        "{ ...f }",
        "{ x } fragment f on Nope { a }",
        "{ y(i: {n: 1, n: 2}) }",
        "{ y(n: \"x\") }",
        "{ n }",
        "{ a(b: [[1,\"x\"]]) { x } }",
        "mutation { make }",
        "{ x @foo }",
        "{ a(q: 1) { x } }",
        "query ($a: Int) { x }",
        "subscription { changed { id } added { id } }",
    ] {
        first(query);
    }
}

#[test]
fn a_value_that_does_not_match_names_its_variable() {
    use serde_json::json;
    for (query, variables, message, place) in [
        (
            "query ($n: Int!) { y(n: $n) }",
            json!({}),
            "missing value for non-null variable 'n'",
            (1, 9),
        ),
        (
            "query ($n: Int) { y(n: $n) }",
            json!({ "n": "x" }),
            "could not coerce variable n: \"x\" to type Int",
            (1, 9),
        ),
        (
            "query ($n: Int, $i: In) { y(n: $n, i: $i) }",
            json!({ "n": 1, "i": {} }),
            "Missing value for non-null input object field In.n",
            (1, 18),
        ),
        (
            "query ($i: In) { y(i: $i) }",
            json!({ "i": { "n": 1, "z": 2 } }),
            "Input object has key z not in type In",
            (1, 9),
        ),
        (
            "query ($i: In) { y(i: $i) }",
            json!({ "i": { "n": 1, "m": [{ "n": "q" }] } }),
            "could not coerce input field In.n: \"q\" to type Int",
            (1, 9),
        ),
    ] {
        let refusals = read_with(query, &variables).unwrap_err();
        let [Refusal { message: found, location, .. }] = refusals.as_slice() else {
            panic!("{refusals:?}");
        };
        assert!(found.starts_with("Variable \"$") && found.ends_with(message), "{found}");
        assert_eq!(*location, Some(place), "{query}");
    }
}
