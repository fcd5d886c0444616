//! What documents are refused, and how fast.

use super::*;

const LIMITS: Limits = Limits {
    tokens: 5_000,
    depth: 12,
    introspection_depth: 20,
    complexity: 10_000,
    aliases: 30,
    root_mutations: 10,
};

const SDL: &str = "
    type Query { a(b: [[Int]], s: String, t: String): Query x: Int y(n: Int = 5, i: In): Int }
    input In { n: Int! m: [In] }
    type Mutation { found(i: In): Int make(i: In!): Int }";

fn read_with(
    query: &str,
    operation_name: Option<&str>,
    variables: &serde_json::Value,
) -> Result<Document, Vec<Refusal>> {
    let rules = Rules::new(SDL).unwrap();
    let operation = Operation::read(query, operation_name, &LIMITS, &rules, &["found"])?;
    Document::new(Arc::new(operation), &rules, variables.as_object().unwrap().clone())
}

fn read(query: &str) -> Result<Document, Vec<Refusal>> {
    read_with(query, None, &serde_json::json!({}))
}

#[track_caller]
fn refused(query: &str) -> ErrorCode {
    let started = std::time::Instant::now();
    let refusals = read(query).unwrap_err();
    assert!(started.elapsed().as_secs() < 5, "a refusal took {:?}", started.elapsed());
    assert!((1..=10).contains(&refusals.len()), "{refusals:?}");
    assert!(refusals.iter().all(|refusal| refusal.message.len() < 1_300), "{refusals:?}");
    refusals[0].code
}

#[test]
fn a_doubling_bomb_of_fragments_is_refused_at_once() {
    for leaf in ["x", "...nothing", "__typename", "... on Query { x }"] {
        let bomb: Vec<_> = (0..45)
            .map(|n| format!("fragment f{n} on Query {{ ...f{m} ...f{m} }}", m = n + 1))
            .collect();
        let bomb = bomb.join(" ");
        let query = format!("{{ ...f0 }} {bomb} fragment f45 on Query {{ {leaf} }}");
        assert_ne!(refused(&query), ErrorCode::GraphqlParseFailed);
        // Out of every operation's reach it is measured as well.
        refused(&format!("{{ x }} {bomb} fragment f45 on Query {{ {leaf} }}"));
    }
}

#[test]
fn cycles_and_chains_of_fragments_are_refused_in_whatever_order_they_stand() {
    let cycle = "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }";
    assert_eq!(refused(cycle), ErrorCode::GraphqlValidationFailed);
    let mut chain: Vec<_> =
        (0..500).map(|n| format!("fragment f{n} on Query {{ ...f{} }}", n + 1)).collect();
    chain.push("fragment f500 on Query { x }".to_owned());
    let spreads: Vec<_> = (0..=500).rev().map(|n| format!("...f{n}")).collect();
    for operation in
        ["{ ...f0 }".to_owned(), "{ x }".to_owned(), format!("{{ {} }}", spreads.join(" "))]
    {
        let query = format!("{operation} {}", chain.join(" "));
        assert_eq!(refused(&query), ErrorCode::QueryTooComplex);
        chain.reverse();
    }
}

#[test]
fn nothing_hides_from_the_scanner() {
    let deep = "{a".repeat(2_000);
    let list = format!("{{a(b:{}", "[".repeat(2_000));
    let wide = format!("{{{}}}", "x ".repeat(6_000));
    for hidden in [&deep, &list, &wide] {
        for before in ["", "#\r", "#\r\n", "#\u{2028}\r"] {
            assert_eq!(refused(&format!("{before}{hidden}")), ErrorCode::QueryTooComplex);
        }
    }
    for string in [r#""""\"""" """"#, r#""""\\ """"#, r#""\"""#] {
        let query = format!("{{ a(s: {string}) {{ {} }} }}", "x ".repeat(6_000));
        assert_eq!(refused(&query), ErrorCode::QueryTooComplex, "{string}");
    }
    assert_eq!(refused(&format!("{{ {} }}", "n".repeat(100_000))), ErrorCode::QueryTooComplex);
}

#[test]
fn brackets_in_strings_and_comments_do_not_nest() {
    let brackets = "[".repeat(500);
    let query =
        format!("# {brackets}\n{{ a(s: \"{brackets}\\\"\", t: \"\"\"{brackets}\"\"\") {{ x }} }}");
    assert!(read(&query).is_ok(), "{:?}", read(&query));
}

#[test]
fn depth_counts_fields_and_not_introspection() {
    let nested = |name: &str, levels: usize, leaf: &str| {
        (1..levels).fold(format!("{{ {leaf} }}"), |inner, _| format!("{{ {name} {inner} }}"))
    };
    assert!(read(&nested("a", 12, "x")).is_ok());
    assert_eq!(refused(&nested("a", 13, "x")), ErrorCode::QueryTooComplex);
    let kinds =
        |levels| format!("{{ __schema {{ queryType {} }} }}", nested("ofType", levels, "name"));
    assert!(read(&kinds(15)).unwrap().introspection_only);
    assert_eq!(refused(&kinds(25)), ErrorCode::QueryTooComplex);
    // Not deep, but each level as wide as the schema.
    let wide =
        "{ __type(name: \"Query\") { possibleTypes { interfaces { possibleTypes { name } } } } }";
    assert_eq!(refused(wide), ErrorCode::QueryTooComplex);
}

#[test]
fn what_opens_no_transaction_is_told_apart() {
    assert!(read("{ __typename }").unwrap().introspection_only);
    let spread = "{ ...r } fragment r on Query { __schema { queryType { name } } }";
    assert!(read(spread).unwrap().introspection_only);
    let mixed = read("{ __schema { queryType { name } } x }").unwrap();
    assert!(!mixed.introspection_only && mixed.introspects);
}

#[test]
fn a_mutation_is_held_to_its_rules() {
    let two = "mutation { a: found b: make(i: { n: 1 }) }";
    assert_eq!(refused(two), ErrorCode::GraphqlValidationFailed);
    assert!(read("mutation { __typename found }").is_ok());
    assert_eq!(refused("mutation { found found }"), ErrorCode::GraphqlValidationFailed);
    let many: Vec<_> = (0..11).map(|n| format!("a{n}: make(i: {{ n: 1 }})")).collect();
    let many = format!("mutation {{ {} }}", many.join(" "));
    assert_eq!(refused(&many), ErrorCode::QueryTooComplex);
}

#[test]
fn the_operation_must_be_there_and_chosen() {
    let two = "query a { x } query b { x }";
    assert_eq!(refused(two), ErrorCode::GraphqlValidationFailed);
    let none = serde_json::json!({});
    assert!(read_with(two, Some("b"), &none).is_ok());
    assert!(read_with(two, Some("c"), &none).is_err());
    assert!(read_with("{ x }", Some("a"), &none).is_err());
    assert_eq!(refused("{"), ErrorCode::GraphqlParseFailed);
}

#[test]
fn the_rules_of_the_specification_hold() {
    for invalid in [
        "{ nothing }",
        "{ x { y } }",
        "{ a }",
        "{ z: x z: y }",
        "{ y(i: { n: 1, n: 2 }) }",
        "{ y(i: { n: 1, m: [{ n: 1 }, { n: 2, n: 3 }] }) }",
        "query ($i: In = { n: 1, n: 2 }) { y(i: $i) }",
        "{ ...f } fragment f on Query { ... { y(i: { n: 1, n: 2 }) } }",
        "{ y(i: {}) }",
        "{ y(n: \"1\") }",
        "{ y(n: 3000000000) }",
        "query ($s: String) { y(n: $s) }",
        "query ($n: Int @nope) { y(n: $n) }",
        "query ($n: Int) { x }",
        "{ y(n: $n) }",
        "{ x @nope }",
        "{ x } fragment unused on Query { x }",
    ] {
        assert_eq!(refused(invalid), ErrorCode::GraphqlValidationFailed, "{invalid}");
    }
}

#[test]
fn variables_are_coerced_or_refused() {
    let query = "query ($n: Int!, $d: Int = 7, $o: Int, $i: In) { a: y(n: $n) b: y(n: $d) c: y(n: $o, i: $i) }";
    let read = |variables: serde_json::Value| read_with(query, None, &variables);
    let document = read(serde_json::json!({ "n": 1, "unknown": 2 })).unwrap();
    let variables = serde_json::to_value(&document.variables).unwrap();
    assert_eq!(variables, serde_json::json!({ "n": 1, "d": 7, "o": null, "i": null }));
    for bad in [
        serde_json::json!({}),
        serde_json::json!({ "n": null }),
        serde_json::json!({ "n": "1" }),
        serde_json::json!({ "n": 3_000_000_000_i64 }),
        serde_json::json!({ "n": 1, "i": {} }),
        serde_json::json!({ "n": 1, "i": { "n": 1, "z": 1 } }),
    ] {
        let refusals = read(bad.clone()).unwrap_err();
        assert_eq!(refusals[0].code, ErrorCode::GraphqlValidationFailed, "{bad}");
    }
}
