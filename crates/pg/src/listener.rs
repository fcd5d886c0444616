//! LISTEN: a connection that receives notifications.

use std::ops::Deref;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{Client, ConnectOptions, Result};

/// A connection that listens to a channel.
#[derive(Debug)]
pub struct Listener {
    client: Client,
    payloads: UnboundedReceiver<String>,
}

impl Listener {
    /// Connects and listens to the channel.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or refuses the login.
    pub async fn connect(options: &ConnectOptions, channel: &str) -> Result<Self> {
        let (sender, payloads) = unbounded_channel();
        let notified = move |payload: &str| {
            // Fails if the listener was just dropped.
            let _ = sender.send(payload.to_owned());
        };
        let client = Client::open(options, notified).await?;
        client.batch(&format!("LISTEN {channel}")).await?;
        Ok(Self { client, payloads })
    }

    /// Waits for the next notification and returns its payload; `None` if the connection is lost.
    pub async fn next(&mut self) -> Option<String> {
        self.payloads.recv().await
    }
}

impl Deref for Listener {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
