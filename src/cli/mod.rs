//! The command line: one file or folder per subcommand. Every failure is reported as one line.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

mod audit;
mod billing;
mod catalogue;
mod configuration_docs;
mod console;
mod dev;
mod doctor;
mod failure;
mod feature;
mod health;
mod migrate;
mod new;
mod owner_connection;
mod plan;
mod plan_file;
mod plan_file_prices;
mod plan_price;
mod runtime;
mod schema;
mod serve;
mod server;
mod tenant;
mod token;
mod user;

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

pub use configuration_docs::configuration_docs;
use console::{capitalized, counted, print, say};
pub use failure::Failure;
use runtime::runtime;

/// The multi-tenant core of a SaaS product: a GraphQL API with tenant isolation enforced by
/// PostgreSQL.
///
/// Without a command, runs dev. Every setting is an environment variable and a flag; see tenantry
/// serve --help.
#[derive(Debug, Parser)]
#[command(name = "tenantry", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Dev),
    Serve(serve::Serve),
    Migrate(migrate::Migrate),
    Feature(feature::Feature),
    Plan(plan::Plan),
    Billing(billing::Billing),
    Audit(audit::Audit),
    User(user::User),
    Tenant(tenant::Tenant),
    Doctor(doctor::Doctor),
    Health(health::Health),
    Token(token::Token),
    Schema(schema::Schema),
    New(new::New),
}

/// Parses the arguments and runs their command. Call it on the main thread.
///
/// # Errors
///
/// Returns one line that says what is wrong.
pub fn run() -> Result<std::process::ExitCode, Failure> {
    let parsed = with_clean_environment(Cli::command())
        .mut_subcommand("dev", dev::Dev::without_refused)
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            return print(&error.render().to_string()).map(|()| std::process::ExitCode::SUCCESS);
        }
        // A group of commands without the name of one.
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return print(&error.render().to_string()).map(|()| std::process::ExitCode::FAILURE);
        }
        Err(error) => return Err(one_line(&error)),
    };
    match cli.command {
        None => {
            let matches =
                with_clean_environment(dev::Dev::command()).try_get_matches_from(["tenantry"]);
            let command = matches.and_then(|matches| dev::Dev::from_arg_matches(&matches));
            command.map_err(|error| one_line(&error))?.run()
        }
        Some(Command::Dev(command)) => command.run(),
        Some(Command::Serve(command)) => command.run(),
        Some(Command::Migrate(command)) => command.run(),
        Some(Command::Feature(command)) => command.run(),
        Some(Command::Plan(command)) => command.run(),
        Some(Command::Billing(command)) => command.run(),
        Some(Command::Audit(command)) => command.run(),
        Some(Command::User(command)) => command.run(),
        Some(Command::Tenant(command)) => command.run(),
        Some(Command::Doctor(command)) => command.run(),
        Some(Command::Health(command)) => command.run(),
        Some(Command::Token(command)) => command.run(),
        Some(Command::Schema(command)) => command.run(),
        Some(Command::New(command)) => command.run(),
    }
    .map(|()| std::process::ExitCode::SUCCESS)
}

/// Treats an empty variable as unset, because files that list all variables leave the unused ones
/// empty. Removes white space around values: a secret that is mounted from a file often ends with
/// a line break.
fn with_clean_environment(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| {
        let value = argument.get_env().and_then(std::env::var_os);
        let Some(value) = value.as_ref().and_then(|value| value.to_str()) else { return argument };
        match value.trim() {
            "" => argument.env(None::<&str>),
            same if same == value => argument,
            clean => {
                // Settings are read once, at the start, and clap keeps texts that live as long.
                let clean: &'static str = clean.to_owned().leak();
                argument.env(None::<&str>).default_value(clean).hide_default_value(true)
            }
        }
    });
    command.mut_subcommands(with_clean_environment)
}

/// Returns clap's message and its suggestion as one line. The message names a setting as it was
/// given: as a flag or as an environment variable.
fn one_line(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n").map(line);
    let message = paragraphs.next().unwrap_or_default();
    let mut message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && let Some((flag, variable)) = argument.split_once(" <")
        && !is_given(flag)
    {
        let variable = variable.trim_end_matches(['.', '>']);
        message = message.replace(&format!("'{argument}'"), variable);
    }
    for (vague, form) in FORMS {
        message = message.replace(vague, form);
    }
    let mut tips: Vec<_> =
        paragraphs.filter_map(|text| text.strip_prefix("tip: ").map(capitalized)).collect();
    let is_of_usage = matches!(
        error.kind(),
        ErrorKind::InvalidSubcommand
            | ErrorKind::UnknownArgument
            | ErrorKind::MissingRequiredArgument
    );
    if tips.is_empty() && is_of_usage {
        tips.push("For more information, try --help".to_owned());
    }
    for tip in tips {
        message = format!("{message}. {tip}");
    }
    Failure::new(message)
}

/// What the standard library says about a value, and the form that the value must have.
const FORMS: [(&str, &str); 5] = [
    ("invalid digit found in string", "must be a whole number"),
    ("cannot parse integer from empty string", "must be a whole number"),
    ("number too large to fit in target type", "is too large"),
    ("invalid socket address syntax", "must be an address and a port, for example 127.0.0.1:4000"),
    ("relative URL without a base", "must be an address, for example https://app.example.com"),
];

/// Whether the command line has this flag.
fn is_given(flag: &str) -> bool {
    std::env::args().any(|given| given.split('=').next() == Some(flag))
}
