//! Bad tokens from one address: limited for each minute, over all transports together, without
//! affecting other clients.

use std::num::NonZeroU32;

use serde_json::json;

use super::transports::{self, Transport, ask};
use crate::support::{App, AppSettings, app::token_with};

const MOST: u32 = 10;

#[tokio::test]
async fn many_bad_tokens_are_rate_limited_over_every_transport_and_good_ones_are_accepted() {
    let good = token_with(&json!({ "sub": "acme-owner" }));
    let expired = token_with(&json!({ "sub": "acme-owner", "exp": 1 }));
    for transport in transports::ALL {
        let attempts_by_address = NonZeroU32::new(MOST).unwrap();
        let app = App::with(AppSettings { attempts_by_address, ..AppSettings::default() }).await;
        let http = reqwest::Client::new();
        let (refused, limited) =
            if transport == Transport::Socket { (4403, 1013) } else { (401, 429) };
        let mut response = Vec::new();
        for n in 0..=MOST {
            // An expired token that was valid before is not a guess and does not count.
            assert_eq!(ask(&http, &app, transport, "/org/acme", &expired).await.status, refused);
            let bad = format!("nonsense{n}");
            response.push(ask(&http, &app, transport, "/org/acme", &bad).await);
        }
        let statuses: Vec<_> = response.iter().map(|response| response.status).collect();
        assert_eq!(statuses[..MOST as usize], vec![refused; MOST as usize], "{transport:?}");
        let last = response.last().unwrap();
        assert_eq!(last.status, limited, "{transport:?}: {last:?}");
        if transport != Transport::Socket {
            assert!(last.text.contains("RATE_LIMITED"), "{last:?}");
            let wait = last
                .headers
                .iter()
                .find(|(name, _)| name == "retry-after")
                .expect("no Retry-After");
            assert!((1..=7).contains(&wait.1.parse::<u32>().unwrap()), "{wait:?}");
        }
        // All transports share one limit.
        assert_eq!(ask(&http, &app, Transport::Post, "/org/globex", "nonsense").await.status, 429);
        assert_eq!(ask(&http, &app, Transport::Post, "/org/globex", &expired).await.status, 401);
        assert_eq!(ask(&http, &app, Transport::Schema, "", "nonsense").await.status, 429);
        // Another client at the same address, and one without a token.
        for transport in [Transport::Post, Transport::Get, Transport::Schema] {
            assert_eq!(ask(&http, &app, transport, "/org/acme", &good).await.status, 200);
        }
        app.client(Some("acme"), None)
            .query("{ viewer { id } }")
            .await
            .assert_refused(401, "UNAUTHENTICATED");
    }
}
