//! Pages of lists by time, newest first, that stand in several partitions: by day, and a day in
//! shards.

use super::Row;
use super::names::{DAY, sortable};
use crate::time::{Millis, whole_ms};

/// The characters of a time in a place.
const TIME: usize = 16;
/// The longest place of such a list.
const MAX_PLACE: usize = 192;

/// The part of a list that is wanted, from one time up to a place that is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// What was accepted then or later.
    pub since: Millis,
    /// Only places before this one: a time, or a time and what follows it in a place.
    pub before: String,
}

/// What was read of one partition, from the last place back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The rows, the last place first.
    pub rows: Vec<Row>,
    /// The last place that was looked at, if the partition goes on before it.
    pub next: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What it shows, newest first.
    pub items: Vec<T>,
    /// The place before which the partitions go on, if they do.
    pub next: Option<String>,
}

impl Window {
    /// What was accepted from `since` on and before `until`; nothing is older than `oldest`, or
    /// newer than this day.
    pub fn new(since: Option<Millis>, until: Option<Millis>, oldest: Millis, now: Millis) -> Self {
        let tomorrow = begin_of_day(now).after(DAY);
        Self { since: since.unwrap_or(oldest).max(oldest), before: sortable(until.unwrap_or(tomorrow).min(tomorrow)) }
    }

    /// The same from a cursor's place on. `None` if that is no place of the window.
    pub fn from(&self, place: &str) -> Option<Self> {
        let is_ours = place.len() <= MAX_PLACE
            && place.bytes().all(|byte| byte.is_ascii_graphic())
            && place.get(..TIME)?.bytes().all(|byte| byte.is_ascii_digit())
            && place < self.before.as_str();
        is_ours.then(|| Self { since: self.since, before: place.to_owned() })
    }

    /// The beginnings of its days, newest first, `most` at most.
    pub fn days(&self, most: usize) -> Vec<Millis> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let older = |day: &Millis| day.0.checked_sub(whole_ms(DAY)).map(Millis);
        let days = std::iter::successors(Some(begin_of_day(newest)), older);
        days.take_while(|day| day.after(DAY) > self.since).take(most).collect()
    }

    /// Where the list goes on when these days of it have been read to their end.
    pub fn next(&self, days: &[Millis]) -> Option<String> {
        days.last().filter(|oldest| **oldest > self.since).map(|oldest| sortable(*oldest))
    }

    /// The last instant in it.
    fn newest(&self) -> Option<Millis> {
        let at: u64 = self.before.get(..TIME)?.parse().ok()?;
        // A time without more is before everything of its instant.
        let newest = if self.before.len() == TIME { at.checked_sub(1)? } else { at };
        Some(Millis(newest)).filter(|newest| *newest >= self.since)
    }
}

/// The beginning of a day, in UTC.
pub fn begin_of_day(at: Millis) -> Millis {
    Millis(at.0 - at.0 % whole_ms(DAY))
}

/// Merges what was read of several partitions into the first `limit` of what `read` gives; rows
/// for which it gives nothing are passed over. A partition that goes on hides what is before the
/// last place that was looked at, so the others are not followed beyond it.
pub fn merged<T>(runs: Vec<Run>, limit: usize, mut read: impl FnMut(&Row) -> Option<T>) -> Page<T> {
    let bound = runs.iter().filter_map(|run| run.next.clone()).max();
    let is_seen = |row: &Row| bound.as_ref().is_none_or(|bound| row.place >= *bound);
    let mut rows: Vec<Row> = runs.into_iter().flat_map(|run| run.rows).filter(is_seen).collect();
    rows.sort_unstable_by(|a, b| b.place.cmp(&a.place));
    let mut items = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        items.extend(read(row));
        if items.len() >= limit {
            let goes_on = at + 1 < rows.len();
            let next = if goes_on { Some(row.place.clone()) } else { bound };
            return Page { items, next };
        }
    }
    Page { items, next: bound }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const DAY_MS: u64 = 86_400_000;

    fn row(place: &str) -> Row {
        Row {
            partition: String::new(),
            place: place.to_owned(),
            body: String::new(),
            kept_until: Millis(0),
            by_event: None,
        }
    }

    fn run(places: &[&str], next: Option<&str>) -> Run {
        Run { rows: places.iter().map(|place| row(place)).collect(), next: next.map(str::to_owned) }
    }

    /// A partition as the table gives it.
    fn read_partition(places: &BTreeSet<String>, window: &Window, limit: usize) -> Run {
        let (after, before) = (sortable(window.since), window.before.clone());
        let mut inside = places.iter().rev().filter(|place| **place > after && **place < before);
        let rows: Vec<Row> = inside.by_ref().take(limit).map(|place| row(place)).collect();
        let next = inside.next().and_then(|_| rows.last().map(|row| row.place.clone()));
        Run { rows, next }
    }

    #[test]
    fn a_partition_that_goes_on_bounds_the_others() {
        let page = merged(vec![run(&["9", "7"], Some("7")), run(&["8", "6"], None)], 10, |row| Some(row.place.clone()));
        assert_eq!((page.items.join(""), page.next.as_deref()), ("987".to_owned(), Some("7")));
        let page = merged(vec![run(&["9", "7"], None), run(&["8"], None)], 2, |row| Some(row.place.clone()));
        assert_eq!((page.items.join(""), page.next.as_deref()), ("98".to_owned(), Some("8")));
        let page = merged(vec![run(&["9"], None), run(&["8"], None)], 2, |row| Some(row.place.clone()));
        assert_eq!((page.items.join(""), page.next), ("98".to_owned(), None));
    }

    #[test]
    fn what_is_passed_over_is_not_looked_at_again() {
        let page = merged(vec![run(&["9", "8", "7"], Some("7"))], 2, |row| (row.place == "9").then_some(()));
        assert_eq!((page.items.len(), page.next.as_deref()), (1, Some("7")));
    }

    #[test]
    fn a_window_has_the_days_that_it_touches() {
        let day = |n: u64| Millis(n * DAY_MS);
        let window = |since, until| Window::new(Some(Millis(since)), Some(Millis(until)), Millis(0), day(100));
        assert_eq!(window(DAY_MS, 3 * DAY_MS).days(9), [day(2), day(1)]);
        assert_eq!(window(DAY_MS - 1, 3 * DAY_MS + 1).days(9), [day(3), day(2), day(1), day(0)]);
        assert_eq!(window(DAY_MS - 1, 3 * DAY_MS + 1).days(2), [day(3), day(2)]);
        assert_eq!(window(5, 5).days(9), []);
        assert_eq!(window(6, 5).days(9), []);
        assert_eq!(Window::new(None, None, day(99), Millis(100 * DAY_MS + 7)).days(9), [day(100), day(99)]);
        let later = Window::new(Some(Millis(0)), Some(Millis(u64::MAX)), day(100), day(100));
        assert_eq!((later.since, later.days(9)), (day(100), vec![day(100)]));
    }

    #[test]
    fn only_places_of_the_window_go_on() {
        let window = Window::new(None, Some(Millis(50)), Millis(0), Millis(0));
        let place = format!("{}#e", sortable(Millis(49)));
        assert_eq!(window.from(&place).unwrap().before, place);
        let long = format!("{place}{}", "x".repeat(MAX_PLACE));
        for other in ["", "9", "x", &sortable(Millis(50)), "000000000000004x", &format!("{place}\u{e9}"), &long] {
            assert_eq!(window.from(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_rows_in_any_shards_and_days_come_once_and_in_order(
            rows in prop::collection::btree_map((0u64..4 * DAY_MS, 0u8..20), (0usize..4, any::<bool>()), 0..60),
            limit in 1usize..7,
            read_limit in 1usize..7,
            days_a_page in 1usize..4,
            since in 0u64..3 * DAY_MS,
            until in 0u64..4 * DAY_MS,
        ) {
            let place = |at: u64, id: u8| format!("{}#{id}", sortable(Millis(at)));
            let mut partitions = vec![BTreeSet::new(); 16];
            for ((at, id), (shard, _)) in &rows {
                partitions[usize::try_from(at / DAY_MS).unwrap() * 4 + shard].insert(place(*at, *id));
            }
            let wanted: BTreeSet<String> =
                rows.iter().filter(|(_, (_, keep))| *keep).map(|((at, id), _)| place(*at, *id)).collect();
            let whole = Window::new(Some(Millis(since)), Some(Millis(until)), Millis(0), Millis(4 * DAY_MS));
            let mut window = whole.clone();
            let mut seen = Vec::new();
            for _ in 0..500 {
                let days = window.days(days_a_page);
                let shards = days.iter().flat_map(|day| (0..4).map(move |shard| day.0 / DAY_MS * 4 + shard));
                let runs = shards
                    .map(|place| read_partition(&partitions[usize::try_from(place).unwrap()], &window, read_limit))
                    .collect();
                let page = merged(runs, limit, |row| wanted.contains(&row.place).then(|| row.place.clone()));
                prop_assert!(page.items.len() <= limit);
                seen.extend(page.items);
                let Some(next) = page.next.or_else(|| window.next(&days)) else { break };
                window = whole.from(&next).unwrap();
            }
            let inside = |((at, _), (_, keep)): &(&(u64, u8), &(usize, bool))| *keep && (since..until).contains(at);
            let mut all: Vec<String> = rows.iter().filter(inside).map(|((at, id), _)| place(*at, *id)).collect();
            all.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(seen, all);
        }
    }
}
