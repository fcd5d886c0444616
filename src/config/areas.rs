//! The settings of all areas, assembled once at start for the sessions of a server.

use std::sync::Arc;

use http::Extensions;

use crate::tenancy::AreaSettings;

macro_rules! areas {
    ($($(#[$doc:meta])* $area:ident),+ $(,)?) => {
        /// The settings of all areas.
        #[derive(Clone, Debug)]
        pub struct AllSettings {
            $($(#[$doc])* pub $area: crate::$area::Settings,)+
        }

        impl AllSettings {
            /// Makes the settings available to sessions.
            #[must_use]
            pub fn assemble(self) -> Arc<Extensions> {
                let mut areas = Extensions::new();
                $(areas.insert(self.$area);)+
                Arc::new(areas)
            }
        }

        // A session returns only settings that are assembled above.
        $(impl AreaSettings for crate::$area::Settings {})+
    };
}

areas! {
    /// Trials and Stripe.
    billing,
    /// The term and the e-mails of invitations.
    invitation,
    /// How many organizations a user may own.
    organization,
    /// How long a plan outlives a failed payment.
    plan,
    /// What the quantity of a per-seat subscription means.
    seats,
}
