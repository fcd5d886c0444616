//! GraphQL documents that are too long, too deep or too broad, each in a different way.

use serde_json::json;

use super::Attack;

pub const TOO_COMPLEX: &str = "QUERY_TOO_COMPLEX";
pub const INVALID: &str = "GRAPHQL_VALIDATION_FAILED";
const NO_GRAPHQL: &str = "GRAPHQL_PARSE_FAILED";

pub fn numbered(count: usize, each: impl Fn(usize) -> String) -> String {
    (0..count).map(each).collect::<Vec<_>>().join(" ")
}

/// Most of a type.
const WIDE: &str = "fragment f on __Type { name fields { name args { name type { name } }
    type { name ofType { name fields { name } } } } }";

/// Fragments that each spread the next one `times` times.
fn fragments(count: usize, times: usize, leaf: &str) -> String {
    let each =
        |n| format!("fragment f{n} on Query {{{}}}", format!(" ...f{}", n + 1).repeat(times));
    format!("{} fragment f{count} on Query {{ {leaf} }}", numbered(count, each))
}

fn projects(first: &str, inside: &str) -> String {
    format!("{{ organization {{ projects(first: {first}) {{ nodes {{ {inside} }} }} }} }}")
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn texts() -> Vec<(&'static str, String, &'static str)> {
    let deep =
        |levels: usize| format!("{}x{}", "{ organization ".repeat(levels), "}".repeat(levels));
    let users = |count| numbered(count, |n| format!("p{n}: createdBy {{ id name email }}"));
    let cycle = |count: usize| {
        let each = |n| format!("fragment f{n} on Query {{ ...f{} }}", (n + 1) % count);
        format!("{{ ...f0 }} {}", numbered(count, each))
    };
    vec![
        (
            "depth 13",
            format!("{{ organization {{ projects {{ nodes {{ createdBy {} }} }} }} }}", deep(10)),
            TOO_COMPLEX,
        ),
        ("depth 100,000", "{a".repeat(100_000), TOO_COMPLEX),
        ("depth by inline fragments", "{ ... ".repeat(2_000), TOO_COMPLEX),
        (
            "lists 100,000 deep",
            format!("{{ nodes(ids: {}) {{ id }} }}", "[".repeat(100_000)),
            TOO_COMPLEX,
        ),
        (
            "objects 20,000 deep",
            format!("{{ node(id: {}) {{ id }} }}", "{a:".repeat(20_000)),
            TOO_COMPLEX,
        ),
        (
            "types 20,000 deep",
            format!("query ($a: {}Int) {{ viewer {{ id }} }}", "[".repeat(20_000)),
            TOO_COMPLEX,
        ),
        ("parentheses", "(".repeat(1_000_000), TOO_COMPLEX),
        ("pages times members", projects("100", &users(26)), TOO_COMPLEX),
        (
            "pages beside pages",
            format!(
                "{{ organization {{ {} }} }}",
                numbered(30, |n| format!(
                    "p{n}: projects(first: 100) {{ nodes {{ id name description createdAt }} }}"
                ))
            ),
            TOO_COMPLEX,
        ),
        (
            "31 aliases",
            numbered(31, |n| format!("a{n}: __typename")).replacen("a0", "{ a0", 1) + "}",
            TOO_COMPLEX,
        ),
        (
            "1,600 aliases",
            format!("{{ {} }}", numbered(1_600, |n| format!("a{n}: __typename"))),
            TOO_COMPLEX,
        ),
        (
            "aliases in fragments",
            format!(
                "{{ ...f ...g }} fragment f on Query {{ {} }} fragment g on Query {{ {} }}",
                numbered(16, |n| format!("a{n}: __typename")),
                numbered(16, |n| format!("b{n}: __typename"))
            ),
            TOO_COMPLEX,
        ),
        ("2,400 directives", format!("{{ viewer {} {{ id }} }}", "@a ".repeat(2_400)), INVALID),
        (
            "2,400 directives by name",
            format!("{{ viewer {} {{ id }} }}", numbered(2_400, |n| format!("@a{n}"))),
            INVALID,
        ),
        (
            "700 times skip",
            format!("{{ viewer {} {{ id }} }}", "@skip(if: false) ".repeat(700)),
            INVALID,
        ),
        ("5,000 directives", format!("{{ viewer {} {{ id }} }}", "@a ".repeat(5_000)), TOO_COMPLEX),
        (
            "11 mutations",
            format!(
                "mutation {{ {} }}",
                numbered(11, |n| format!(
                    "m{n}: createProject(input: {{ name: \"x\" }}) {{ project {{ id }} }}"
                ))
            ),
            TOO_COMPLEX,
        ),
        (
            "a fragment that spreads itself",
            "{ ...f } fragment f on Query { ...f }".to_owned(),
            INVALID,
        ),
        ("a cycle of 40 fragments", cycle(40), INVALID),
        ("a cycle of 800 fragments", cycle(800), TOO_COMPLEX),
        (
            "a fragment bomb of 2^40",
            format!("{{ ...f0 }} {}", fragments(40, 2, "__typename")),
            TOO_COMPLEX,
        ),
        (
            "an unused fragment bomb of 2^40",
            format!("{{ __typename }} {}", fragments(40, 2, "__typename")),
            TOO_COMPLEX,
        ),
        (
            "a fragment bomb of 40^20",
            format!("{{ ...f0 }} {}", fragments(20, 40, "__typename")),
            TOO_COMPLEX,
        ),
        (
            "a chain of 700 fragments",
            format!("{{ ...f0 }} {}", fragments(700, 1, "__typename")),
            TOO_COMPLEX,
        ),
        (
            "a chain of 8,000 fragments",
            format!("{{ ...f0 }} {}", fragments(8_000, 1, "__typename")),
            TOO_COMPLEX,
        ),
        (
            "a fragment 1,200 times",
            format!(
                "{{ {} }} fragment f on Query {{ {} }}",
                "...f ".repeat(1_200),
                "viewer { id } ".repeat(300)
            ),
            TOO_COMPLEX,
        ),
        (
            "unknown fragments",
            format!("{{ {} }}", numbered(1_200, |n| format!("...f{n}"))),
            INVALID,
        ),
        ("400 operations", numbered(400, |n| format!("query q{n} {{ __typename }}")), INVALID),
        ("2,400 anonymous operations", "{x}".repeat(1_600), INVALID),
        ("400 times one operation", "query q { __typename } ".repeat(400), INVALID),
        (
            "4,900 unknown fields",
            format!("{{ {} }}", numbered(4_900, |n| format!("x{n}"))),
            INVALID,
        ),
        (
            "fields that do not merge",
            format!(
                "{{ {} }}",
                numbered(14, |n| format!(
                    "a: node(id: \"{n}\") {{ id }} b: nodes(ids: [\"{n}\"]) {{ id }}"
                ))
            ),
            INVALID,
        ),
        ("a field 4,900 times", format!("{{ {} }}", "viewer ".repeat(4_900)), INVALID),
        (
            "1,200 variables",
            format!("query ({}) {{ viewer {{ id }} }}", numbered(1_200, |n| format!("$a{n}: Int"))),
            INVALID,
        ),
        (
            "1,200 times one variable",
            format!("query ({}) {{ viewer {{ id }} }}", "$a: Int ".repeat(1_200)),
            INVALID,
        ),
        (
            "1,000 undeclared variables",
            format!("{{ nodes(ids: [{}]) {{ id }} }}", numbered(1_000, |n| format!("$v{n}"))),
            INVALID,
        ),
        ("6,000 tokens", format!("{{ {} }}", "id ".repeat(6_000)), TOO_COMPLEX),
        ("500,000 tokens", "a ".repeat(500_000), TOO_COMPLEX),
        ("a million commas", format!("{{ {} }}", ",".repeat(1_000_000)), TOO_COMPLEX),
        ("a million spaces", format!("{{ {} }}", " ".repeat(1_000_000)), NO_GRAPHQL),
        ("a million line feeds", format!("{{ {} }}", "\n".repeat(500_000)), NO_GRAPHQL),
        ("300,000 comments", format!("{{ {} }}", "#\n".repeat(250_000)), TOO_COMPLEX),
        ("a comment of a million", format!("# {}", "x".repeat(1_000_000)), NO_GRAPHQL),
        ("commas between comments", format!("{{ {} }}", ",#\n ".repeat(150_000)), TOO_COMPLEX),
        ("byte order marks", "\u{feff}".repeat(300_000), TOO_COMPLEX),
        ("a name of a million", format!("{{ {} }}", "n".repeat(1_000_000)), TOO_COMPLEX),
        (
            "names of 199",
            format!("{{ {} }}", numbered(4_000, |n| format!("{}{n}", "n".repeat(195)))),
            INVALID,
        ),
        ("a directive's long name", format!("{{ viewer @{} {{ id }} }}", "d".repeat(199)), INVALID),
        (
            "a variable's long name",
            format!("query (${}: Int) {{ viewer {{ id }} }}", "v".repeat(199)),
            INVALID,
        ),
        (
            "a type's long name",
            format!("query ($v: {}) {{ nodes(ids: $v) {{ id }} }}", "T".repeat(199)),
            INVALID,
        ),
        ("a fragment's long name", format!("{{ ...{} }}", "f".repeat(199)), INVALID),
        (
            "an enum's long name",
            format!(
                "mutation {{ inviteMember(input: {{ email: \"a@b.c\", role: {} }}) {{ invitation {{ id }} }} }}",
                "R".repeat(199)
            ),
            INVALID,
        ),
        (
            "a string of a million for a number",
            projects(&format!("\"{}\"", "s".repeat(1_000_000)), "id"),
            TOO_COMPLEX,
        ),
        (
            "a string of 60,000 for a number",
            projects(&format!("\"{}\"", "s".repeat(60_000)), "id"),
            INVALID,
        ),
        (
            "a block of a million for a number",
            projects(&format!("\"\"\"{}\"\"\"", "s\\n ".repeat(200_000)), "id"),
            TOO_COMPLEX,
        ),
        ("an unterminated string", format!("{{ node(id: \"{}", "s".repeat(1_000_000)), TOO_COMPLEX),
        (
            "an unterminated block string",
            format!("{{ node(id: \"\"\"{}", "s".repeat(1_000_000)),
            TOO_COMPLEX,
        ),
        (
            "a string full of escapes",
            format!("{{ viewer(id: \"{}\") {{ id }} }}", "\\u0041".repeat(140_000)),
            TOO_COMPLEX,
        ),
        ("an invalid escape", "{ node(id: \"\\q\") { id } }".to_owned(), NO_GRAPHQL),
        ("half a surrogate pair", "{ node(id: \"\\uD83D\") { id } }".to_owned(), NO_GRAPHQL),
        ("a number of a million digits", projects(&"9".repeat(1_000_000), "id"), TOO_COMPLEX),
        ("a number of 199 digits", projects(&"9".repeat(199), "id"), INVALID),
        ("an integer out of range", projects("2147483648", "id"), INVALID),
        ("1e400", projects("1e400", "id"), NO_GRAPHQL),
        ("a number with a zero in front", projects("00", "id"), NO_GRAPHQL),
        ("control characters", "{ viewer\u{0} { id } }".to_owned(), NO_GRAPHQL),
        ("a name of another alphabet", "{ v\u{456}ewer { id } }".to_owned(), NO_GRAPHQL),
        ("a right-to-left override", "{ viewer \u{202e} { id } }".to_owned(), NO_GRAPHQL),
        ("definitions of types", "type Query { a: Int } ".repeat(600), INVALID),
        (
            "introspection in cycles",
            format!(
                "{{ __schema {{ types {{ {} }} }} }}",
                (0..8)
                    .fold("name".to_owned(), |inner, _| format!("fields {{ type {{ {inner} }} }}"))
            ),
            TOO_COMPLEX,
        ),
        (
            "introspection 30 times",
            format!(
                "{{ {} }} {WIDE}",
                numbered(30, |n| format!("a{n}: __schema {{ types {{ ...f }} }}"))
            ),
            TOO_COMPLEX,
        ),
        (
            "introspection with 30 nested aliases",
            format!(
                "{{ __schema {{ {} }} }} {WIDE}",
                numbered(30, |n| format!("a{n}: types {{ ...f }}"))
            ),
            TOO_COMPLEX,
        ),
        (
            "introspection of kinds 30 deep",
            format!(
                "{{ __schema {{ types {{ {} }} }} }}",
                (0..30).fold("name".to_owned(), |inner, _| format!("ofType {{ {inner} }}"))
            ),
            TOO_COMPLEX,
        ),
    ]
}

pub fn all() -> Vec<Attack> {
    let attack = |(name, text, code)| {
        let body = json!({ "query": text }).to_string().into();
        Attack { name, body, status: 400, code }
    };
    texts().into_iter().map(attack).collect()
}
