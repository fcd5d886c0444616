//! The API as a subgraph: entities, the schema for composition, and a gateway in front.

mod gateway;

use apollo_compiler::Schema;
use serde_json::{Value, json};
use tenantry::{
    config::Introspection,
    schema::{sdl, subgraph_sdl},
};

use crate::support::{
    App, AppSettings, Client, Reply,
    process::{self, tenantry},
};

const ENTITIES: &str = "query ($of: [_Any!]!) { _entities(representations: $of) {
    __typename
    ... on Organization { id slug }
    ... on Member { id role user { email } }
    ... on Invitation { id email }
    ... on Project { id name createdBy { name } }
    ... on User { id userName: name }
} }";
const INVITE: &str =
    "mutation { inviteMember(input: { email: \"new@example.com\", role: VIEWER }) {
    invitation { id } } }";
const IDS: &str =
    "{ organization { id projects { nodes { id } } members { nodes { id user { id } } } } }";
const SERVICE: &str = "{ _service { sdl } }";

fn settings() -> AppSettings {
    AppSettings { federation: true, ..AppSettings::default() }
}

async fn entities(client: &Client, representations: &[Value]) -> Reply {
    client.query_with(ENTITIES, json!({ "of": representations })).await
}

fn representation(of: &str, id: &Value) -> Value {
    json!({ "__typename": of, "id": id })
}

/// A representation of each type, of objects in the client's organization.
async fn one_of_each(client: &Client) -> [Value; 5] {
    let invitation = client.data(INVITE).await["inviteMember"]["invitation"]["id"].clone();
    let organization = client.data(IDS).await["organization"].clone();
    let member = &organization["members"]["nodes"][0];
    [
        representation("Organization", &organization["id"]),
        representation("Member", &member["id"]),
        representation("Invitation", &invitation),
        representation("Project", &organization["projects"]["nodes"][0]["id"]),
        representation("User", &member["user"]["id"]),
    ]
}

#[tokio::test]
async fn entities_of_every_type_are_returned_in_the_order_of_their_representations() {
    let app = App::with(settings()).await;
    let owner = app.user("acme-owner");
    let mut wanted = one_of_each(&owner).await.to_vec();
    wanted.reverse();
    wanted.push(wanted[0].clone());
    // What a subgraph requires from another one comes along with the key.
    wanted[1]["name"] = json!("ignored");
    let data = entities(&owner, &wanted).await.data();
    let found = data["_entities"].as_array().unwrap();
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!((&found["__typename"], &found["id"]), (&wanted["__typename"], &wanted["id"]));
    }
    assert_eq!(found.len(), 6);
    assert_eq!(found[0]["userName"], "Victor");
    assert_eq!(found[1]["createdBy"]["name"], "Mia");
    assert_eq!(found[2]["email"], "new@example.com");
    assert_eq!(found[3]["user"]["email"], "acme-viewer@example.com");
    assert_eq!(found[4]["slug"], "acme");
    assert_eq!(entities(&owner, &[]).await.data(), json!({ "_entities": [] }));
}

#[tokio::test]
async fn a_foreign_an_unknown_and_a_mistyped_entity_are_null() {
    let app = App::with(settings()).await;
    // The free plan has no room for an invitation.
    app.database.execute("UPDATE billing.organization_billing SET plan = 'enterprise'").await;
    let (owner, stranger) = (app.user("acme-owner"), app.user("globex-owner"));
    let foreign = one_of_each(&stranger).await;
    let own = one_of_each(&owner).await;
    let unknown = json!("00000000-0000-4000-8000-0000000000ff");
    let types = foreign.iter().map(|entity| entity["__typename"].as_str().unwrap());
    let unknown = types.map(|of| representation(of, &unknown));
    let mistyped = [
        representation("Project", &own[1]["id"]),
        representation("Organization", &own[3]["id"]),
        representation("Project", &json!("none")),
        representation("Project", &json!(7)),
    ];
    let wanted: Vec<_> = foreign.iter().cloned().chain(unknown).chain(mistyped).collect();
    let data = entities(&owner, &wanted).await.data();
    assert_eq!(data["_entities"], json!(vec![Value::Null; 14]));
    // Without an organization, and without a membership.
    let nowhere = app.client(None, Some(crate::support::app::token("acme-owner")));
    assert_eq!(entities(&nowhere, &own).await.data()["_entities"], json!(vec![Value::Null; 5]));
    let outsider = app.client(Some("acme"), Some(crate::support::app::token("globex-owner")));
    entities(&outsider, &own).await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn every_role_sees_the_entities_that_node_shows() {
    let app = App::with(settings()).await;
    let all = one_of_each(&app.user("acme-owner")).await;
    let mut hidden = 0;
    for role in ["owner", "admin", "member", "viewer"] {
        let client = app.user(&format!("acme-{role}"));
        let found = entities(&client, &all).await.data()["_entities"].clone();
        for (index, wanted) in all.iter().enumerate() {
            let query = "query ($id: ID!) { node(id: $id) { __typename id } }";
            let node = client.query_with(query, json!({ "id": wanted["id"] })).await.data();
            assert_eq!(found[index]["id"], node["node"]["id"], "{role}: {wanted}");
            hidden += usize::from(node["node"].is_null());
        }
    }
    // The invitation, for members and viewers.
    assert_eq!(hidden, 2);
}

#[tokio::test]
async fn a_malformed_representation_is_an_error_that_names_it() {
    let app = App::with(settings()).await;
    let owner = app.user("acme-owner");
    let good = representation("Project", &json!("x"));
    for (bad, message) in [
        (json!(7), "entry 1: must be an object"),
        (json!([good]), "entry 1: must be an object"),
        (json!({ "id": "x" }), "entry 1: `__typename` must name an entity"),
        (json!({ "__typename": 7, "id": "x" }), "entry 1: `__typename` must name an entity"),
        (representation("Plan", &json!("x")), "entry 1: `__typename` must name an entity"),
        (representation("Node", &json!("x")), "entry 1: `__typename` must name an entity"),
        (json!({ "__typename": "Project" }), "entry 1: `id` must be an ID"),
        (representation("Project", &Value::Null), "entry 1: `id` must be an ID"),
        (representation("Project", &json!({ "id": 1 })), "entry 1: `id` must be an ID"),
    ] {
        let reply = entities(&owner, &[good.clone(), bad]).await;
        reply.assert_failed("BAD_USER_INPUT");
        let error = &reply.body["errors"][0];
        assert_eq!(error["message"], format!("representations: {message}"));
        assert_eq!(error["extensions"]["field"], "representations");
    }
    entities(&owner, &[Value::Null]).await.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    let literal =
        "{ _entities(representations: [{ __typename: \"Project\", id: \"x\" }]) { __typename } }";
    assert_eq!(owner.data(literal).await, json!({ "_entities": [null] }));
}

#[tokio::test]
async fn each_representation_and_each_id_counts_towards_the_limits() {
    let mut settings = settings();
    settings.limits.complexity = 300;
    let app = App::with(settings).await;
    let owner = app.user("acme-owner");
    let unknown = json!("00000000-0000-4000-8000-0000000000ff");
    let wanted = |count: usize| {
        let of = vec![representation("Project", &unknown); count];
        json!({ "of": of, "ids": vec![unknown.clone(); count] })
    };
    let entities = "query ($of: [_Any!]!) { _entities(representations: $of) {
        ... on Project { id name description createdAt } } }";
    let nodes = "query ($ids: [ID!]!) { nodes(ids: $ids) {
        ... on Project { id name description createdAt } } }";
    for query in [entities, nodes] {
        // The same document is known by then, but its cost depends on the variables.
        owner.query_with(query, wanted(74)).await.data();
        owner.query_with(query, wanted(75)).await.assert_refused(400, "QUERY_TOO_COMPLEX");
        let cheap = query.replace("id name description createdAt", "id");
        owner.query_with(&cheap, wanted(100)).await.data();
        let reply = owner.query_with(&cheap, wanted(101)).await;
        if query == nodes {
            assert_eq!(reply.codes(), ["BAD_USER_INPUT"]);
            assert!(reply.text.contains("must have at most 100 entries"), "{}", reply.text);
            continue;
        }
        // A list of another subgraph may refer to more objects than a page of tenantry has.
        assert_eq!(reply.data()["_entities"].as_array().unwrap().len(), 101);
        let names = "query ($of: [_Any!]!) { _entities(representations: $of) { __typename } }";
        for text in [cheap.as_str(), names] {
            owner.query_with(text, wanted(299)).await.data();
            owner.query_with(text, wanted(300)).await.assert_refused(400, "QUERY_TOO_COMPLEX");
        }
    }
}

#[tokio::test]
async fn the_schema_of_the_subgraph_is_read_like_introspection() {
    for (introspection, anonymous, signed_in) in [
        (Introspection::Always, 200, 200),
        (Introspection::Authenticated, 401, 200),
        (Introspection::Never, 401, 400),
    ] {
        let app = App::with(AppSettings { introspection, ..settings() }).await;
        let (anonymous_client, owner) = (app.client(Some("acme"), None), app.user("acme-owner"));
        for (client, status) in [(&anonymous_client, anonymous), (&owner, signed_in)] {
            let reply = client.query(SERVICE).await;
            assert_eq!(reply.status, status, "{introspection:?}");
            if status == 200 {
                assert_eq!(reply.data()["_service"]["sdl"], subgraph_sdl());
            }
        }
        let entities = "{ _entities(representations: []) { __typename } _service { sdl } }";
        anonymous_client.query(entities).await.assert_refused(401, "UNAUTHENTICATED");
        let nested =
            "mutation { updateOrganization(input: { name: \"Acme\" }) { organization { id } }
            query { _service { sdl } } }";
        assert_eq!(owner.query(nested).await.status, signed_in, "{introspection:?}");
    }
}

#[tokio::test]
async fn a_document_cannot_repeat_the_schema_without_limit() {
    let app = App::with(settings()).await;
    let repeated = |count: usize| {
        let fields: Vec<_> = (0..count).map(|n| format!("s{n}: _service {{ sdl }}")).collect();
        format!("{{ {} }}", fields.join(" "))
    };
    let owner = app.user("acme-owner");
    assert_eq!(owner.data(&repeated(15)).await.as_object().unwrap().len(), 15);
    owner.query(&repeated(16)).await.assert_refused(400, "QUERY_TOO_COMPLEX");
}

const TYPES: &str = "{ __schema { types { name description possibleTypes { name } } } }";

#[tokio::test]
async fn without_the_setting_the_api_has_no_trace_of_federation() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    for query in [SERVICE, "{ _entities(representations: []) { __typename } }"] {
        let reply = owner.query(query).await;
        reply.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
        assert!(!reply.text.contains("Did you mean"), "{}", reply.text);
    }
    let data = owner.data(TYPES).await;
    let types = data["__schema"]["types"].as_array().unwrap();
    let names: Vec<_> = types.iter().map(|of| of["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"Project"));
    assert!(!names.iter().any(|name| name.starts_with('_') && !name.starts_with("__")));
    assert!(!sdl().contains("_entities") && !sdl().contains("_Any") && !sdl().contains("@key"));
}

#[tokio::test]
async fn every_type_of_node_is_an_entity_with_the_key_id() {
    let app = App::with(settings()).await;
    let data = app.user("acme-owner").data(TYPES).await;
    let types = data["__schema"]["types"].as_array().unwrap();
    let possible = |name: &str| {
        let of = types.iter().find(|of| of["name"] == name).unwrap();
        assert!(of["description"].is_string(), "{name}");
        let names = of["possibleTypes"].as_array().into_iter().flatten();
        let mut names: Vec<_> = names.map(|of| of["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        names
    };
    let nodes = possible("Node");
    assert!(nodes.contains(&"Project") && nodes.len() >= 5, "{nodes:?}");
    assert_eq!(possible("_Entity"), nodes);
    assert_eq!((possible("_Any").len(), possible("_Service").len()), (0, 0));
    let schema = Schema::parse(subgraph_sdl(), "subgraph.graphql").unwrap();
    let mut keyed: Vec<_> = schema
        .types
        .iter()
        .filter(|(_, of)| of.directives().has("key"))
        .map(|(name, of)| {
            let key = of.directives().get("key").unwrap();
            assert_eq!(key.to_string(), "@key(fields: \"id\")");
            name.as_str()
        })
        .collect();
    keyed.sort_unstable();
    assert_eq!(keyed, nodes);
    assert!(schema.types.contains_key("Subscription"));
}

#[test]
fn the_schema_of_the_subgraph_is_printed() {
    let output = process::run(tenantry().args(["schema", "--federation"]));
    assert_eq!((output.code, output.stdout), (Some(0), subgraph_sdl()));
    let output = process::run(tenantry().args(["schema", "--federation", "--docs"]));
    process::failed(&output, "cannot be used with");
}
