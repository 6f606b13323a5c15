//! What is in a directory, and its orders.

use std::{cmp::Ordering, io, mem::size_of, time::SystemTime};

use super::{
    facts::Facts,
    root::{Below, Root},
};

/// A file or a directory in a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) facts: Facts,
}

impl Item {
    /// Returns how many bytes it has in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len()
    }
}

/// Reads a directory. Returns its files and directories in the order of names, `most` of them at
/// most, and whether that is all. What cannot be requested is left out: hidden names, names that
/// are not UTF-8, links that lead outside, and what is neither a file nor a directory.
///
/// # Errors
/// The same as for [`Root::names`].
pub(super) fn list(root: &Root, path: &Below, most: usize) -> io::Result<(Vec<Item>, bool)> {
    let mut items = Vec::new();
    let mut is_whole = true;
    for below in root.names(path)? {
        let Some(item) = item(root, &below?) else {
            continue;
        };
        if items.len() == most {
            is_whole = false;
            break;
        }
        items.push(item);
    }
    items.shrink_to_fit();
    items.sort_unstable_by(|a, b| Order::default().compare(a, b));
    Ok((items, is_whole))
}

fn item(root: &Root, below: &Below) -> Option<Item> {
    let name = below.path().file_name()?.to_str()?.to_owned();
    let there = root.metadata(below).ok()?;
    let is_served = there.is_file() || there.is_dir();
    let facts = Facts::of(&there);
    is_served.then_some(Item { name, facts })
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Key {
    #[default]
    Name,
    Size,
    Time,
}

/// The order of a list. Directories are always first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) key: Key,
    pub(super) is_descending: bool,
}

impl Order {
    /// Reads the order from a query such as `sort=size&order=desc`. What it does not know counts
    /// for nothing.
    pub(super) fn of(query: Option<&str>) -> Self {
        let mut order = Self::default();
        for part in query.unwrap_or_default().split('&') {
            match part {
                "sort=name" => order.key = Key::Name,
                "sort=size" => order.key = Key::Size,
                "sort=time" => order.key = Key::Time,
                "order=asc" => order.is_descending = false,
                "order=desc" => order.is_descending = true,
                _ => {}
            }
        }
        order
    }

    pub(super) fn query(self) -> String {
        let key = match self.key {
            Key::Name => "name",
            Key::Size => "size",
            Key::Time => "time",
        };
        let order = match self.is_descending {
            true => "desc",
            false => "asc",
        };
        format!("?sort={key}&order={order}")
    }

    /// Returns the positions of the items of a list in this order.
    pub(super) fn of_items(self, items: &[Item]) -> Vec<u32> {
        let mut order: Vec<_> = (0u32..).take(items.len()).collect();
        let item = |at: &u32| &items[*at as usize];
        order.sort_unstable_by(|a, b| self.compare(item(a), item(b)));
        order
    }

    fn compare(self, a: &Item, b: &Item) -> Ordering {
        let directories_first = b.facts.is_dir().cmp(&a.facts.is_dir());
        // The length of a directory says nothing.
        let len = |item: &Item| match item.facts.is_dir() {
            true => 0,
            false => item.facts.len(),
        };
        let by_key = match self.key {
            Key::Name => Ordering::Equal,
            Key::Size => len(a).cmp(&len(b)),
            Key::Time => time(a).cmp(&time(b)),
        };
        let ascending = by_key.then_with(|| a.name.cmp(&b.name));
        directories_first.then(match self.is_descending {
            true => ascending.reverse(),
            false => ascending,
        })
    }
}

fn time(item: &Item) -> Option<SystemTime> {
    item.facts.modified()
}
