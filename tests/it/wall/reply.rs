//! What is true of every answer, whatever was asked.

use serde_json::Value;

use super::{
    model::{Organization, Role},
    register::Person,
};
use crate::support::Reply;

/// These an organization keeps back from all but admins and owners.
const KEPT_BACK: [&str; 3] = ["invitations", "billing", "auditLogs"];

/// Faults, not answers, whatever the enumeration says.
const FAULTS: [&str; 4] = ["INTERNAL", "TIMEOUT", "UNAVAILABLE", "RATE_LIMITED"];

/// The codes of errors; those of what a mutation reads back apart.
pub fn codes(reply: &Reply) -> (Vec<&str>, Vec<&str>) {
    let errors = reply.body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let (mut own, mut read_back) = (Vec::new(), Vec::new());
    for error in errors {
        let code = error["extensions"]["code"].as_str().unwrap_or("none");
        if error["path"][0] == "query" { &mut read_back } else { &mut own }.push(code);
    }
    (own, read_back)
}

/// What is wrong with an answer by its looks alone.
pub fn misshapen(reply: &Reply, known: &[String]) -> Option<String> {
    let (own, read_back) = codes(reply);
    let faults: Vec<_> = own
        .iter()
        .chain(&read_back)
        .filter(|code| FAULTS.contains(code) || !known.iter().any(|known| known == *code))
        .collect();
    if reply.status.is_server_error() || !reply.body.is_object() || !faults.is_empty() {
        return Some(format!("a fault: {} {faults:?}", reply.status));
    }
    let empty = reply.body.get("data").is_none_or(Value::is_null);
    (empty && own.is_empty() && read_back.is_empty()).then(|| "no data, and no error".to_owned())
}

/// What an answer to a query shows that it should not, or keeps back that it should show.
pub fn indiscreet(
    reply: &Reply,
    here: &Organization,
    people: &[Person],
    caller: usize,
    role: Role,
) -> Option<String> {
    if role >= Role::Admin && codes(reply).0.contains(&"FORBIDDEN") {
        return Some("a permission is missing".to_owned());
    }
    let data = &reply.body["data"];
    if role < Role::Admin
        && let Some(kept_back) = KEPT_BACK.iter().find(|key| holds(data, key))
    {
        return Some(format!("{kept_back} is kept back from a {}", role.name()));
    }
    let met = |id: &&str| {
        let person = people.iter().position(|person| person.id.to_string() == **id);
        person.is_some_and(|person| person == caller || here.role_of(person).is_some())
    };
    people_in(data).iter().find(|id| !met(id)).map(|id| format!("the person {id} is no member"))
}

fn holds(value: &Value, key: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| holds(item, key)),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name == key && !value.is_null() || holds(value, key))
        }
        _ => false,
    }
}

/// The ids of the people that an answer shows.
fn people_in(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().flat_map(people_in).collect(),
        Value::Object(fields) => {
            let own = (value["__typename"] == "User").then(|| value["id"].as_str().unwrap());
            own.into_iter().chain(fields.values().flat_map(people_in)).collect()
        }
        _ => Vec::new(),
    }
}
