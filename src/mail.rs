//! Mail, sent through an SMTP server.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};

/// How long a server may take for a step of the conversation.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The address of whom it is for.
    pub to: String,
    /// One line.
    pub subject: String,
    /// The text.
    pub text: String,
}

/// Sends letters; cheap to clone.
#[derive(Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mailer").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Why a letter was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The letter cannot be written, for example to an address that is none.
    #[error("{0}")]
    InvitationEmail(#[from] lettre::error::Error),
    /// An address that is none.
    #[error("{0}")]
    Address(#[from] lettre::address::AddressError),
    /// The server refused, or cannot be reached.
    #[error("{0}")]
    Server(#[from] lettre::transport::smtp::Error),
}

impl Mailer {
    /// A sender at `smtp://…` or `smtps://…`; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the server's address, or the sender's, is none.
    pub fn new(url: &str, from: &str) -> Result<Self, MailError> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)?;
        Ok(Self { transport: transport.timeout(Some(TIMEOUT)).build(), from: from.parse()? })
    }

    /// Hands a letter to the server. Sent twice under the same `id`, it is the same letter to
    /// whoever receives it.
    ///
    /// # Errors
    ///
    /// When the server did not take it.
    pub async fn send(&self, mail: &Mail, id: &str) -> Result<(), MailError> {
        let domain = self.from.email.domain();
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, mail.to.parse()?))
            .subject(&mail.subject)
            .message_id(Some(format!("<{id}@{domain}>")))
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone())?;
        self.transport.send(message).await?;
        Ok(())
    }
}
