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
fn a_syntax_error_names_what_was_expected() {
    for (query, place, message) in [
        ("{", (1, 2), "expected a field or a fragment, found the end of the document."),
        ("{ x ", (1, 5), "expected a field or `}`, found the end of the document."),
        ("{ x } }", (1, 7), "expected an operation or a fragment, found `}`."),
        ("{ y(n:) }", (1, 7), "expected a valid Value, found `)`."),
        ("{ y(n 1) }", (1, 7), "expected `)`, found `1`."),
        ("{ y(n: 1 }", (1, 10), "expected `)`, found `}`."),
        ("query ($n Int) { x }", (1, 11), "expected a Name, found `Int`."),
        ("query ($n: ) { x }", (1, 12), "expected a Type, found `)`."),
        ("querry { x }", (1, 1), "expected an operation or a fragment, found `querry`."),
        ("{ x @ }", (1, 7), "expected a Name, found `}`."),
        ("{\n  ...\n}", (2, 3), "expected a fragment after `...`, found `...`."),
        ("fragment f { x }", (1, 12), "expected `on`, found `{`."),
        ("{ a(s: \"x) { x } }", (1, 8), "unterminated string value."),
        ("{ a(s: \"\\uD83D\") { x } }", (1, 8), "unpaired surrogate in unicode escape sequence."),
        ("{ x }\n{ \u{e9} }", (2, 3), "Unexpected character \"\u{e9}\"."),
        ("", (1, 1), "expected an operation or a fragment, found the end of the document."),
        ("# x", (1, 4), "expected an operation or a fragment, found the end of the document."),
    ] {
        assert_eq!(first(query), (format!("Syntax error: {message}"), place), "{query}");
    }
}

#[test]
fn a_limit_names_the_place_where_it_is_exceeded() {
    let deep = (0..13).fold("x".to_owned(), |inner, _| format!("a {{ {inner} }}"));
    let numbered = |most: usize, field: &str| {
        (0..most).map(|n| format!("a{n}: {field}")).collect::<Vec<_>>().join(" ")
    };
    let (mutations, aliases) = (numbered(11, "make(i: { n: 1 })"), numbered(31, "x"));
    for (query, place) in [
        (format!("query A {{\n  x\n  {deep}\n}}"), (3, 3 + 13 * 4)),
        (format!("{{ ...f }}\n fragment f on Query {{ {deep} }}"), (2, 24 + 13 * 4)),
        (format!("\n  mutation {{ {mutations} }}"), (2, 3)),
        (format!("\n\n{{ {aliases} }}"), (3, 1)),
        (format!("{{\n {} }}", "x ".repeat(6_000)), (2, 10_000)),
        (format!("{{ a(s: \"\u{e9}\n\") }}\n{{{}", "[".repeat(60)), (3, 49)),
        (format!("{{ x\n {} }}", "n".repeat(300)), (2, 2)),
        (
            "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }"
                .to_owned(),
            (1, 54),
        ),
        ("mutation { create make(i: { n: 1 }) }".to_owned(), (1, 1)),
    ] {
        assert_eq!(first(&query).1, place, "{query}");
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
