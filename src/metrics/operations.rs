//! Operation names as labels. Clients choose the names, so only the most frequent ones become
//! labels, selected with the Space-Saving algorithm (Metwally et al.). A new name replaces the
//! least frequent one and takes over its count. So a client cannot displace names that are used
//! more often than its own.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::RwLock;

/// The number of names that become labels, and the maximum length of a name in bytes.
const MOST: usize = 200;
const LONGEST: usize = 64;

/// The label of operations without a name, or with one that is too long.
pub(super) const OTHER: &str = "other";

/// The names that are labels, with the number of times each was used.
#[derive(Debug, Default)]
pub(super) struct Operations(RwLock<HashMap<String, AtomicU64>>);

impl Operations {
    /// Calls `record` with the label of an operation. If its name displaces another, calls `forget`
    /// with that name first. The lock makes sure that no name is forgotten while it is being
    /// recorded.
    pub(super) fn record(
        &self,
        name: Option<&str>,
        forget: impl FnOnce(&str),
        record: impl FnOnce(&str),
    ) {
        let Some(name) = name.filter(|name| name.len() <= LONGEST) else {
            return record(OTHER);
        };
        {
            let known = self.0.read();
            if let Some(count) = known.get(name) {
                count.fetch_add(1, Ordering::Relaxed);
                return record(name);
            }
        }
        let mut known = self.0.write();
        let mut count = 0;
        if known.len() >= MOST && !known.contains_key(name) {
            let used = |count: &AtomicU64| count.load(Ordering::Relaxed);
            let least = known.iter().min_by_key(|(_, count)| used(count));
            if let Some((least, of_least)) = least.map(|(name, count)| (name.clone(), used(count)))
            {
                known.remove(&least);
                forget(&least);
                count = of_least;
            }
        }
        known
            .entry(name.to_owned())
            .or_insert(AtomicU64::new(count))
            .fetch_add(1, Ordering::Relaxed);
        record(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_used_most_are_told_apart() {
        let operations = Operations::default();
        let mut forgotten = Vec::new();
        let mut ask = |name: &str| {
            let mut label = String::new();
            operations.record(
                Some(name),
                |name| forgotten.push(name.to_owned()),
                |name| name.clone_into(&mut label),
            );
            label
        };
        for _ in 0..10 {
            assert_eq!(ask("Dashboard"), "Dashboard");
        }
        for n in 0..1_000 {
            let name = format!("Invented{n}");
            assert_eq!(ask(&name), name);
        }
        assert_eq!(ask("Late"), "Late");
        assert_eq!(ask(&"L".repeat(LONGEST + 1)), OTHER);
        assert_eq!(forgotten.len(), 1_002 - MOST);
        assert!(!forgotten.contains(&"Dashboard".to_owned()));
        assert_eq!(operations.0.read().len(), MOST);
    }
}
