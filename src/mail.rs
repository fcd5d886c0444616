//! Sends e-mails through an SMTP server.

use std::time::Duration;

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};

/// The timeout of one step of the SMTP conversation.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An e-mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The recipient's address.
    pub to: String,
    /// The subject, one line.
    pub subject: String,
    /// The plain text of the body.
    pub text: String,
}

/// Whether an e-mail can be sent to an address of this form, whether or not the mailbox exists.
#[must_use]
pub fn is_deliverable(address: &str) -> bool {
    address.parse::<Address>().is_ok()
}

/// Sends e-mails. Cheap to clone.
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

/// Why an e-mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The message could not be built.
    #[error("{0}")]
    InvitationEmail(#[from] lettre::error::Error),
    /// An address is invalid.
    #[error("{0}")]
    Address(#[from] lettre::address::AddressError),
    /// The server refused the message or could not be reached.
    #[error("{0}")]
    Server(#[from] lettre::transport::smtp::Error),
}

impl Mailer {
    /// Creates a mailer for a server at `smtp://…` or `smtps://…`. Does not connect yet.
    ///
    /// # Errors
    ///
    /// If the server's address or the sender's is invalid.
    pub fn new(url: &str, from: &str) -> Result<Self, MailError> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)?;
        Ok(Self { transport: transport.timeout(Some(TIMEOUT)).build(), from: from.parse()? })
    }

    /// Passes an e-mail to the server. `id` becomes its Message-ID, by which the recipient's mail
    /// system can recognize an e-mail that is sent twice.
    ///
    /// # Errors
    ///
    /// If the message is invalid or the server does not accept it.
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
