//! How the text of documents and the values of variables are read.

use std::sync::Arc;

use async_graphql::{Value, parser::types::Selection};
use serde_json::json;

use crate::{
    error::ErrorCode,
    graphql::{
        document::{
            Document, Operation,
            tests::{LIMITS, SDL},
        },
        limits::Refusal,
        validation::Validator,
    },
};

fn read_with(
    query: &str,
    name: Option<&str>,
    variables: &serde_json::Value,
) -> Result<Document, Vec<Refusal>> {
    let validator = Validator::new(SDL, true).unwrap();
    let operation = Operation::read(query, name, &LIMITS, &validator)?;
    Document::new(Arc::new(operation), &validator, variables.as_object().unwrap().clone())
}

#[test]
fn a_number_without_a_fractional_part_is_an_integer() {
    let query =
        "query ($n: Int!, $l: [[Int]], $i: In, $d: ID) { a(b: $l, c: $d) { y(n: $n, i: $i) } }";
    let text = r#"{ "n": 30e-1, "l": [3.0, [-0.0, 1e1]], "d": 7.0,
        "i": { "n": -2147483648.0, "m": [{ "n": 2e0 }, { "n": 3, "m": { "n": 4.0 } }] } }"#;
    let variables = serde_json::from_str(text).unwrap();
    let document = read_with(query, None, &variables).unwrap();
    let expected = json!({ "n": 3, "l": [[3], [0, 10]], "d": 7,
        "i": { "n": -2_147_483_648_i64, "m": [{ "n": 2 }, { "n": 3, "m": [{ "n": 4 }] }] } });
    assert_eq!(serde_json::to_value(&document.variables).unwrap(), expected);
}

/// The value of the first argument of the first field.
fn argument(query: &str) -> Value {
    let document = read_with(query, None, &json!({}))
        .unwrap_or_else(|refusals| panic!("{query}: {refusals:?}"));
    let (_, operation) = document.executable().operations.iter().next().unwrap();
    let Selection::Field(field) = &operation.node.selection_set.node.items[0].node else {
        panic!("{query}");
    };
    field.node.arguments[0].1.node.clone().into_const().unwrap()
}

#[test]
fn an_input_object_names_each_field_once() {
    for (query, place) in [
        ("{ y(i: {n: 1, n: 2}) }", (1, 15)),
        ("{ y(i: {m: [{n: 1, n: 1}]}) }", (1, 20)),
        ("query ($i: In = {n: 1, n: 2}) { y(i: $i) }", (1, 24)),
        ("{ ...f } fragment f on Query { y(i: {n: 1,\nn: 2}) }", (2, 1)),
        ("{ y @skip(if: {n: 1, n: 2}) }", (1, 22)),
    ] {
        let refused = read_with(query, None, &json!({})).unwrap_err();
        let [refusal] = refused.as_slice() else { panic!("{query}: {refused:?}") };
        assert_eq!(refusal.message, "There can be only one input field named \"n\".", "{query}");
        assert_eq!(refusal.location, Some(place), "{query}");
    }
}

#[test]
fn strings_have_every_escape_of_the_specification() {
    for (literal, text) in [
        (r#""\uD83D\uDE80""#, "\u{1f680}"),
        (r#""\ud83d\ude80 \u0041""#, "\u{1f680} A"),
        (r#""\u{1F680}\u{1f680}\u{000041}""#, "\u{1f680}\u{1f680}A"),
        (r#""\u{0}\u{10FFFF}""#, "\0\u{10ffff}"),
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""""a\"""b \n \u0041""""#, "a\"\"\"b \\n \\u0041"),
        ("\"\"\"\n    a\n      b\n\n    c\n\"\"\"", "a\n  b\n\nc"),
        (r#""\u{22}}{ \u{5C}""#, "\"}{ \\"),
        ("\"\"", ""),
    ] {
        assert_eq!(
            argument(&format!("{{ a(s: {literal}) {{ x }} }}")),
            Value::from(text),
            "{literal}"
        );
    }
    for literal in [
        r"\uD83D",
        r"\uDE80",
        r"\uDE80\uD83D",
        r"\uD83D\u0041",
        r"\uD83Dx",
        r"\u{D83D}\u{DE80}",
        r"\uD83D\u{DE80}",
        r"\u{110000}",
        r"\u{}",
        r"\u{1F680",
        r"\u{FFFFFFFFF}",
        r"\u12",
        r"\x41",
        r"\u{ 41}",
        r"\U0001F680",
    ] {
        let query = format!("{{ a(s: \"{literal}\") {{ x }} }}");
        let refusals = read_with(&query, None, &json!({})).unwrap_err();
        assert_eq!(refusals[0].code, ErrorCode::GraphqlParseFailed, "{literal}");
    }
}

#[test]
fn documents_are_read_as_the_specification_writes_them() {
    for query in [
        "query ($l: [ [ Int ! ] ] = [ [ 1 ] ]) { a(b: $l) { x } }",
        "query ($l: [[Int]]) # of numbers\n{ a(b: $l) { x } }",
        "{ n { ... on # the first\n One { name } } }",
        "\u{feff}{ x }",
        "{ x\u{feff} }",
        "query query { query: x on: x fragment: x true: x }",
        "{ ...on_ } fragment on_ on Query { x }",
        "query A { x } query B { x } fragment f on Query { x } query C { ...f }",
    ] {
        let name = query.contains("query A").then_some("A");
        let read = read_with(query, name, &json!({}));
        assert!(read.is_ok(), "{query}: {read:?}");
    }
    for (query, message) in [
        ("query A { x } query A { x }", "There can be only one operation named \"A\"."),
        ("{ x } { x }", "An anonymous operation must be the only operation of its document."),
        (
            "{ x } query A { x }",
            "An anonymous operation must be the only operation of its document.",
        ),
        (
            "query A { x } { x }",
            "An anonymous operation must be the only operation of its document.",
        ),
        (
            "{ ...f } fragment f on Query { x } fragment f on Query { y }",
            "There can be only one fragment named \"f\".",
        ),
        ("{ x } type A { a: Int }", "A document may define only operations and fragments."),
        ("fragment f on Query { x }", "The document defines no operation."),
    ] {
        let refusals = read_with(query, None, &json!({})).unwrap_err();
        assert_eq!(refusals[0].message, message);
        assert_eq!(refusals[0].code, ErrorCode::GraphqlValidationFailed);
    }
}
