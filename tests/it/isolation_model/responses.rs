//! Properties of every response.

use serde_json::Value;

use super::{
    model::{Organization, Role},
    ownership::User,
};
use crate::support::Reply;

/// Fields that only admins and owners may read.
const ADMIN_FIELDS: [&str; 3] = ["invitations", "billing", "auditLogs"];

/// Codes that are server faults, although the enumeration has them.
const SERVER_FAULTS: [&str; 4] = ["INTERNAL", "TIMEOUT", "UNAVAILABLE", "RATE_LIMITED"];

/// Returns the codes of errors, separate from those of fields that a mutation read back.
pub fn codes(reply: &Reply) -> (Vec<&str>, Vec<&str>) {
    let errors = reply.body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let (mut own, mut read_back) = (Vec::new(), Vec::new());
    for error in errors {
        let code = error["extensions"]["code"].as_str().unwrap_or("none");
        if error["path"][0] == "query" { &mut read_back } else { &mut own }.push(code);
    }
    (own, read_back)
}

/// Returns a violation of the protocol, regardless of the content.
pub fn protocol_error(reply: &Reply, known: &[String]) -> Option<String> {
    let (own, read_back) = codes(reply);
    let faults: Vec<_> = own
        .iter()
        .chain(&read_back)
        .filter(|code| SERVER_FAULTS.contains(code) || !known.iter().any(|known| known == *code))
        .collect();
    if reply.status.is_server_error() || !reply.body.is_object() || !faults.is_empty() {
        return Some(format!("a fault: {} {faults:?}", reply.status));
    }
    let empty = reply.body.get("data").is_none_or(Value::is_null);
    (empty && own.is_empty() && read_back.is_empty()).then(|| "no data, and no error".to_owned())
}

/// Returns what a response to a query shows without permission, or hides despite one.
pub fn unauthorized_content(
    reply: &Reply,
    here: &Organization,
    users: &[User],
    caller: usize,
    role: Role,
) -> Option<String> {
    if role >= Role::Admin && codes(reply).0.contains(&"FORBIDDEN") {
        return Some("a permission is missing".to_owned());
    }
    let data = &reply.body["data"];
    if role < Role::Admin
        && let Some(admin_field) = ADMIN_FIELDS.iter().find(|key| holds(data, key))
    {
        return Some(format!("{admin_field} is kept back from a {}", role.name()));
    }
    let met = |id: &&str| {
        let user = users.iter().position(|user| user.id.to_string() == **id);
        user.is_some_and(|user| user == caller || here.role_of(user).is_some())
    };
    user_ids(data).iter().find(|id| !met(id)).map(|id| format!("the user {id} is not a member"))
}

fn holds(value: &Value, key: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| holds(item, key)),
        Value::Object(fields) => {
            // The viewer's own invitations are not those of the organization.
            let others = fields.iter().filter(|(name, _)| *name != "viewer");
            others
                .into_iter()
                .any(|(name, value)| name == key && !value.is_null() || holds(value, key))
        }
        _ => false,
    }
}

/// Returns the ids of the users that a response shows.
fn user_ids(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().flat_map(user_ids).collect(),
        Value::Object(fields) => {
            let own = (value["__typename"] == "User").then(|| value["id"].as_str().unwrap());
            own.into_iter().chain(fields.values().flat_map(user_ids)).collect()
        }
        _ => Vec::new(),
    }
}
