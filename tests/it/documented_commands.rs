//! The commands and the operations of pages in `docs`, run as they are printed there: the output
//! of each command is the documented one.

use std::{fs, path::Path};

use crate::support::{
    AppSettings, Client,
    billing_app::BillingApp,
    database::Database,
    process::{run, succeeded, tenantry},
};

/// The code blocks of a page in a language, in order and without indentation.
fn blocks(page: &str, language: &str) -> Vec<Vec<String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let (mut blocks, mut open) = (Vec::new(), None::<(usize, bool, Vec<String>)>);
    // A day of the documented year may be in the past when the test runs.
    for line in fs::read_to_string(file).unwrap().replace("2027-", "2999-").lines() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(name), None) => open = Some((indent, name == language, Vec::new())),
            (Some(_), Some(_)) => {
                let (_, is_wanted, lines) = open.take().unwrap();
                blocks.extend(is_wanted.then_some(lines));
            }
            (None, Some((by, _, lines))) => lines.push(line.chars().skip(*by).collect()),
            (None, None) => {}
        }
    }
    blocks
}

/// The commands after a prompt, each with its documented output.
fn commands(page: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for block in blocks(page, "sh") {
        let mut is_output = false;
        for line in block {
            if let Some(command) = line.strip_prefix("$ tenantry ") {
                commands.push((command.to_owned(), String::new()));
                is_output = true;
            } else if is_output {
                let (_, output) = commands.last_mut().unwrap();
                *output += &(line + "\n");
            }
        }
    }
    commands
}

/// The arguments of a command line, which knows double quotes only.
fn arguments(command: &str) -> Vec<String> {
    let quoted = command.split('"').enumerate();
    let words = quoted.flat_map(|(number, text)| match number % 2 {
        0 => text.split_whitespace().map(str::to_owned).collect(),
        _ => vec![text.to_owned()],
    });
    words.collect()
}

async fn assert_outputs(page: &str, database: &Database, count: usize) {
    let commands = commands(page);
    assert_eq!(commands.len(), count, "{commands:?}");
    for (command, expected) in commands {
        let mut program = tenantry();
        program.args(arguments(&command)).env("MIGRATION_DATABASE_URL", database.url("postgres"));
        let output = tokio::task::spawn_blocking(move || run(&mut program)).await.unwrap();
        assert_eq!(succeeded(&output), expected, "docs/{page}: tenantry {command}");
    }
}

/// Runs the operations of a page: each begins at the start of a line.
async fn assert_operations(page: &str, client: &Client, count: usize) {
    let mut operations: Vec<String> = Vec::new();
    for line in blocks(page, "graphql").concat() {
        if line.starts_with(['{', 'm', 'q']) {
            operations.push(String::new());
        }
        *operations.last_mut().unwrap() += &(line + "\n");
    }
    assert_eq!(operations.len(), count, "{operations:?}");
    for operation in operations {
        let reply = client.query(&operation).await;
        assert!(reply.codes().is_empty(), "docs/{page}: {operation}{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_on_limits_shows_what_its_commands_print() {
    let app = crate::support::App::start().await;
    // A product has features that the page does not mention.
    for table in ["billing.plan_features", "billing.features"] {
        let others = format!(
            "DELETE FROM {table} WHERE feature NOT IN ('projects', 'team_members', 'api_calls_per_month')"
        );
        app.database.execute(&others).await;
    }
    assert_outputs("limits.md", &app.database, 6).await;
    assert_operations("limits.md", &app.user("acme-owner"), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_on_billing_shows_what_its_commands_print() {
    let billing = BillingApp::with(AppSettings::default()).await;
    billing.app.database.execute("DELETE FROM billing.plan_prices").await;
    assert_outputs("billing.md", &billing.app.database, 3).await;
    assert_operations("billing.md", &billing.owner(), 4).await;
}
