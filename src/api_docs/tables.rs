//! The tables of pages that are otherwise written by hand, generated from what the areas declare.
//!
//! A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.

use std::fmt::Write as _;

use entity::OrgRole;

use crate::{action::Action, declared::Declared, permission::Permission};

const START: &str = "<!-- table: ";
const END: &str = "<!-- end of table -->";

/// Returns the page with its tables generated again.
///
/// # Errors
///
/// Names the table that is unknown or has no end.
pub fn with_tables(page: &str) -> Result<String, String> {
    let mut parts = page.split(START);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->").unwrap_or((part, ""));
        let (_, after) =
            rest.split_once(END).ok_or_else(|| format!("the table {name} has no end"))?;
        let rows = match name {
            "actions" => actions(),
            "permissions" => permissions(),
            other => return Err(format!("the table {other} is unknown")),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "{START}{name} -->\n\n{rows}\n{END}{after}");
    }
    Ok(text)
}

fn actions() -> String {
    let mut table = "| action | what happened | metadata |\n| --- | --- | --- |\n".to_owned();
    for action in Action::all() {
        let (name, about, metadata) = (action.name(), action.about(), action.metadata());
        let _ = writeln!(table, "| `{name}` | {about} | {metadata} |");
    }
    table
}

fn permissions() -> String {
    let mut table = "| permission | allows | viewer | member | admin | owner |\n".to_owned();
    table.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for permission in Permission::all() {
        let roles = [OrgRole::Viewer, OrgRole::Member, OrgRole::Admin, OrgRole::Owner];
        let granted = roles.map(|role| if permission.granted_to(role) { " x |" } else { " |" });
        let (name, about) = (permission.name(), permission.about());
        let _ = writeln!(table, "| `{name}` | {about} |{}", granted.concat());
    }
    table
}
