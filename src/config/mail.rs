//! Settings of e-mail.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

use std::num::NonZeroU32;

use clap::Args;

use super::{ConfigError, required};
use crate::mail::{MailError, Mailer};

/// E-mail.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Mail")]
pub struct MailConfig {
    /// The SMTP server that sends invitations, for example smtps://USER:PASSWORD@HOST or
    /// smtp://USER:PASSWORD@HOST:587?tls=required. Without it the inviter receives the link.
    #[arg(long, env, hide_env_values = true)]
    pub smtp_url: Option<String>,

    /// The sender of e-mails, for example Acme <no-reply@acme.example>. Required with SMTP_URL.
    #[arg(long, env)]
    pub smtp_from: Option<String>,

    /// Invitation e-mails that an organization may send in 24 hours.
    #[arg(long, env, default_value = "100")]
    pub max_invitation_mails: NonZeroU32,
}

impl MailConfig {
    /// Returns the mailer, or `None` without `SMTP_URL`.
    pub fn mailer(&self) -> Result<Option<Mailer>, ConfigError> {
        let Some(url) = &self.smtp_url else {
            return Ok(None);
        };
        let remedy = "SMTP_URL requires it. Example: no-reply@example.com";
        let from = required("SMTP_FROM", self.smtp_from.as_deref(), remedy)?;
        // The error does not repeat the server's address, which may hold a password.
        Mailer::new(url, from).map(Some).map_err(|error| match error {
            MailError::Address(error) => {
                ConfigError(format!("SMTP_FROM is not an address: {error}"))
            }
            error => ConfigError(format!("SMTP_URL is not the address of a mail server: {error}")),
        })
    }
}
