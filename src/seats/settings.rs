//! The operator's settings of seats.

use clap::ValueEnum;

/// What the quantity of a per-seat subscription means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SeatsMode {
    /// The quantity follows the number of members and open invitations.
    Sync,
    /// Owners buy a number of seats, which the number of members and open invitations cannot
    /// exceed.
    Cap,
}

/// How Stripe charges a change of the quantity within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Proration {
    /// With the next invoice.
    CreateProrations,
    /// At once.
    AlwaysInvoice,
    /// Not at all.
    None,
}

impl Proration {
    /// Stripe's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateProrations => "create_prorations",
            Self::AlwaysInvoice => "always_invoice",
            Self::None => "none",
        }
    }
}

/// The settings of seats.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What the quantity means. `None` if Stripe does not manage subscriptions.
    pub mode: Option<SeatsMode>,
    /// How a change of the quantity is charged.
    pub proration: Proration,
}
