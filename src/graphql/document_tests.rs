//! Which documents are rejected, how they are merged, and that rejection is fast.

use super::*;
use crate::error::ErrorCode;

pub(crate) const LIMITS: Limits = Limits {
    suggestions: true,
    tokens: 5_000,
    depth: 12,
    introspection_depth: 20,
    complexity: 10_000,
    aliases: 30,
    root_mutations: 10,
};

pub(crate) const SDL: &str = "
    type Query { a(b: [[Int]], s: String, t: String, c: ID): Query x: Int y(n: Int = 5, i: In): Int n: Node }
    interface Node { id: ID me: Node }
    type One implements Node { id: ID me: Node name: Int }
    type Two implements Node { id: ID me: Node role: Int }
    directive @onChange(topic: String!) on FIELD_DEFINITION
    type Subscription { changed: One @onChange(topic: \"one\") added: One @onChange(topic: \"two\") }
    input In { n: Int! m: [In] }
    directive @alone(target: Target!) on FIELD_DEFINITION
    enum Target { REQUESTED USER }
    type Mutation { create(i: In): Int @alone(target: USER) make(i: In!): Int }";

fn read_with(
    query: &str,
    operation_name: Option<&str>,
    variables: &serde_json::Value,
) -> Result<Document, Vec<Refusal>> {
    let validator = Validator::new(SDL, true).unwrap();
    let operation = Operation::read(query, operation_name, &LIMITS, &validator)?;
    Document::new(Arc::new(operation), &validator, variables.as_object().unwrap().clone())
}

fn read(query: &str) -> Result<Document, Vec<Refusal>> {
    read_with(query, None, &serde_json::json!({}))
}

#[track_caller]
fn refused(query: &str) -> ErrorCode {
    let started = std::time::Instant::now();
    let refusals = read(query).unwrap_err();
    assert!(started.elapsed().as_secs() < 60, "a refusal took {:?}", started.elapsed());
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
        // Measured even if no operation spreads it.
        refused(&format!("{{ x }} {bomb} fragment f45 on Query {{ {leaf} }}"));
    }
}

#[test]
fn cycles_and_chains_of_fragments_are_refused_in_any_order() {
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
    // Not deep, but each level is as wide as the schema.
    let wide =
        "{ __type(name: \"Query\") { possibleTypes { interfaces { possibleTypes { name } } } } }";
    assert_eq!(refused(wide), ErrorCode::QueryTooComplex);
}

#[test]
fn introspection_is_limited_by_the_fields_that_it_may_return() {
    let kind =
        (0..9).fold("kind name".to_owned(), |inner, _| format!("kind name ofType {{ {inner} }}"));
    let value =
        format!("name description type {{ {kind} }} defaultValue isDeprecated deprecationReason");
    let types = format!(
        "types {{ kind name description specifiedByURL isOneOf
            fields(includeDeprecated: true) {{ name description args(includeDeprecated: true) {{ {value} }}
                type {{ {kind} }} isDeprecated deprecationReason }}
            inputFields(includeDeprecated: true) {{ {value} }} interfaces {{ {kind} }}
            enumValues(includeDeprecated: true) {{ name description isDeprecated deprecationReason }}
            possibleTypes {{ {kind} }} }}"
    );
    let times = |count: usize, selection: &str| {
        (0..count).map(|n| format!("a{n}: {selection}")).collect::<Vec<_>>().join(" ")
    };
    let fields = "fields { name args { name } type { name fields { name } } }";
    for allowed in [
        format!("{{ __schema {{ {types} }} }}"),
        format!("{{ {} }}", times(2, &format!("__schema {{ {types} }}"))),
        format!("{{ {} }}", times(29, &format!("__type(name: \"Query\") {{ {fields} }}"))),
    ] {
        assert!(read(&allowed).is_ok(), "{allowed}");
    }
    for abusive in [
        format!("{{ {} }}", times(3, &format!("__schema {{ {types} }}"))),
        format!("{{ __schema {{ {} }} }}", times(3, &types)),
        format!("{{ {} }}", times(29, &format!("__schema {{ types {{ {fields} }} }}"))),
    ] {
        assert_eq!(refused(&abusive), ErrorCode::QueryTooComplex, "{abusive}");
    }
}

#[test]
fn introspection_is_recognized() {
    assert!(read("{ __typename }").unwrap().introspection_only);
    let spread = "{ ...r } fragment r on Query { __schema { queryType { name } } }";
    assert!(read(spread).unwrap().introspection_only);
    let mixed = read("{ __schema { queryType { name } } x }").unwrap();
    assert!(!mixed.introspection_only && mixed.introspects);
}

#[test]
fn a_mutation_is_held_to_its_rules() {
    let two = "mutation { a: create b: make(i: { n: 1 }) }";
    assert_eq!(refused(two), ErrorCode::GraphqlValidationFailed);
    assert!(read("mutation { __typename create }").is_ok());
    // Selected twice and executed once, so it is the only field.
    let twice = read("mutation { create create }").unwrap();
    let changes = twice.changes.as_deref().unwrap();
    assert_eq!(changes.iter().map(|change| &change.name).collect::<Vec<_>>(), ["create"]);
    assert_eq!(changes[0].traits.alone, Some(crate::graphql::MutationTarget::User));
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
        serde_json::json!({ "n": 3.5 }),
        serde_json::json!({ "n": 2_147_483_648.0 }),
        serde_json::json!({ "n": 1e300 }),
        serde_json::json!({ "n": 1, "i": { "n": 0.1 } }),
    ] {
        let refusals = read(bad.clone()).unwrap_err();
        assert_eq!(refusals[0].code, ErrorCode::GraphqlValidationFailed, "{bad}");
    }
}

/// The selections to execute, as compact text.
fn executed(query: &str, variables: &serde_json::Value) -> String {
    fn text(set: &SelectionSet) -> String {
        let items = set.items.iter().map(|item| {
            assert!(item.node.directives().is_empty());
            let (name, inner) = match &item.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let alias = field.alias.iter().map(|alias| format!("{}:", alias.node));
                    (alias.collect::<String>() + &field.name.node, &field.selection_set)
                }
                Selection::InlineFragment(inline) => {
                    let condition = inline.node.type_condition.as_ref().unwrap();
                    (format!("...{}", condition.node.on.node), &inline.node.selection_set)
                }
                Selection::FragmentSpread(_) => panic!("a fragment is left"),
            };
            if inner.node.items.is_empty() { name } else { format!("{name}{}", text(&inner.node)) }
        });
        format!("{{{}}}", items.collect::<Vec<_>>().join(" "))
    }
    let document = read_with(query, None, variables).unwrap();
    let (_, operation) = document.executable().operations.iter().next().unwrap();
    text(&operation.node.selection_set.node)
}

#[test]
fn each_response_key_is_selected_once_for_each_type() {
    let none = serde_json::json!({});
    for (query, merged) in [
        ("{ x x x }", "{x}"),
        ("{ x a { x } z: x a { x y } ... { x } }", "{x a{x y} z:x}"),
        ("{ a { a { x } } ...f ...f } fragment f on Query { a { a { y } x } }", "{a{a{x y} x}}"),
        ("{ ... on Query { ... on Query { x } } x }", "{x}"),
        ("{ n { id ... on Node { id } ... on One { id name } } }", "{n{id ...One{name}}}"),
        (
            "{ n { ... on One { name id } ... on Two { role id } ... on One { name } } }",
            "{n{...One{name id} ...Two{role id}}}",
        ),
        (
            "{ n { ... on One { k: name } ... on Two { k: role } } }",
            "{n{...One{k:name} ...Two{k:role}}}",
        ),
        // A selection for all types is merged with that for one type.
        (
            "{ n { me { id } ... on One { me { ... on Two { role } } } } }",
            "{n{...Two{me{id}} ...One{me{id ...Two{role}}}}}",
        ),
        ("{ n { ... on One { ... on Node { ... on Two { id } } name } } }", "{n{...One{name}}}"),
        ("{ x @skip(if: true) y @include(if: true) y @include(if: false) }", "{y}"),
        (
            "subscription { ...f ...g } fragment f on Subscription { changed { id } }
          fragment g on Subscription { changed { name } }",
            "{changed{id name}}",
        ),
        ("mutation { make(i: { n: 1 }) make(i: { n: 1 }) }", "{make}"),
    ] {
        assert_eq!(executed(query, &none), merged, "{query}");
    }
}

#[test]
fn conditions_decide_before_selections_are_merged() {
    let query = "query ($s: Boolean!, $t: Boolean!) {
        a @include(if: $s) { x }
        a @include(if: $t) { y }
        ...f @skip(if: $s)
        ... @include(if: $t) { a { z: x } x }
    } fragment f on Query { a { y } w: x }";
    for (s, t, merged) in [
        (true, true, "{a{x y z:x} x}"),
        (true, false, "{a{x}}"),
        (false, true, "{a{y z:x} w:x x}"),
        (false, false, "{a{y} w:x}"),
    ] {
        assert_eq!(executed(query, &serde_json::json!({ "s": s, "t": t })), merged, "{s} {t}");
    }
    // A hundred variables make a hundred conditions on one field.
    let variables =
        (0..100).map(|n| format!("$v{n}: Boolean = true ")).collect::<Vec<_>>().concat();
    let fields = (0..100).map(|n| format!("x @include(if: $v{n}) ")).collect::<Vec<_>>().concat();
    let query = format!("query ({variables}) {{ {fields} }}");
    assert_eq!(executed(&query, &serde_json::json!({})), "{x}");
}

#[test]
fn limits_are_those_of_what_is_executed() {
    let repeated = format!("{{ {} }}", "z: x ".repeat(1_600));
    assert_eq!(read(&repeated).unwrap().selections, 1);
    let aliases = (0..31).map(|n| format!("a{n}: x ")).collect::<Vec<_>>().concat();
    assert_eq!(refused(&format!("{{ {aliases} }}")), ErrorCode::QueryTooComplex);
    let root: String = "make(i: { n: 1 }) ".repeat(300);
    assert!(read(&format!("mutation {{ {root} }}")).is_ok());
    for other in [
        "subscription { changed { id } added { id } }",
        "subscription { changed { id } z: changed { id } }",
    ] {
        assert_eq!(refused(other), ErrorCode::GraphqlValidationFailed, "{other}");
    }
    // Nested interfaces, with each level for each type.
    let chain = (0..10)
        .map(|n| {
            let next = n + 1;
            format!("fragment f{n} on Node {{ me {{ ...f{next} }} ... on One {{ me {{ id }} }} }} ")
        })
        .collect::<Vec<_>>()
        .concat();
    let bomb = format!("{{ n {{ ...f0 }} }} {chain} fragment f10 on Node {{ id }}");
    assert!(matches!(read(&bomb), Err(refusals) if refusals[0].code == ErrorCode::QueryTooComplex));
}
