//! Bad tokens from one address: so many a minute, over whatever way, and nobody else is kept out.

use std::num::NonZeroU32;

use serde_json::json;

use super::ways::{self, Way, ask};
use crate::support::{App, AppSettings, app::token_with};

const MOST: u32 = 10;

#[tokio::test]
async fn who_shows_many_bad_tokens_is_to_wait_on_every_way_and_good_ones_are_good() {
    let good = token_with(&json!({ "sub": "acme-owner" }));
    let expired = token_with(&json!({ "sub": "acme-owner", "exp": 1 }));
    for way in ways::ALL {
        let attempts_by_address = NonZeroU32::new(MOST).unwrap();
        let app = App::with(AppSettings { attempts_by_address, ..AppSettings::default() }).await;
        let http = reqwest::Client::new();
        let (refused, limited) = if way == Way::Socket { (4403, 1013) } else { (401, 429) };
        let mut told = Vec::new();
        for n in 0..=MOST {
            // One that was good once is none that was guessed: not counted.
            assert_eq!(ask(&http, &app, way, "/org/acme", &expired).await.status, refused);
            let bad = format!("nonsense{n}");
            told.push(ask(&http, &app, way, "/org/acme", &bad).await);
        }
        let statuses: Vec<_> = told.iter().map(|told| told.status).collect();
        assert_eq!(statuses[..MOST as usize], vec![refused; MOST as usize], "{way:?}");
        let last = told.last().unwrap();
        assert_eq!(last.status, limited, "{way:?}: {last:?}");
        if way != Way::Socket {
            assert!(last.text.contains("RATE_LIMITED"), "{last:?}");
            let wait = last
                .headers
                .iter()
                .find(|(name, _)| name == "retry-after")
                .expect("no Retry-After");
            assert!((1..=7).contains(&wait.1.parse::<u32>().unwrap()), "{wait:?}");
        }
        // One count for all ways.
        assert_eq!(ask(&http, &app, Way::Post, "/org/globex", "nonsense").await.status, 429);
        assert_eq!(ask(&http, &app, Way::Post, "/org/globex", &expired).await.status, 401);
        assert_eq!(ask(&http, &app, Way::Schema, "", "nonsense").await.status, 429);
        // Somebody else behind the same address, and who has no token at all.
        for way in [Way::Post, Way::Get, Way::Schema] {
            assert_eq!(ask(&http, &app, way, "/org/acme", &good).await.status, 200);
        }
        app.client(Some("acme"), None)
            .query("{ viewer { id } }")
            .await
            .assert_refused(401, "UNAUTHENTICATED");
    }
}
