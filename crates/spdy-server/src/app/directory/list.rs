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
    /// Returns how many bytes it has in memory, with its places in the orders.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + 2 * size_of::<usize>()
    }
}

/// The maximum of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) entries: usize,
    /// What the cache has room for. A list that it does not keep could not be shared.
    pub(super) bytes: usize,
}

/// What is in a directory, in every order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    /// The directories, and then the files, each by their names.
    items: Vec<Item>,
    directories: usize,
    by_size: Vec<usize>,
    by_time: Vec<usize>,
    /// Whether that is all.
    pub(super) is_whole: bool,
}

impl List {
    /// Reads the files and directories in a directory. If that is not all, they are those that the
    /// system named first. What cannot be requested is left out: hidden names, names that are not
    /// UTF-8, links that lead outside, and what is neither a file nor a directory.
    ///
    /// # Errors
    /// The same as for [`Root::names`].
    pub(super) fn read(root: &Root, path: &Below, most: Most) -> io::Result<Self> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut is_whole = true;
        let most_names = most.entries.saturating_mul(NAMES_OF_ENTRY);
        for (names, below) in root.names(path)?.enumerate() {
            if names == most_names {
                is_whole = false;
                break;
            }
            let Some(item) = below?.and_then(|below| item(root, &below)) else {
                continue;
            };
            bytes += item.bytes();
            if items.len() == most.entries || bytes > most.bytes {
                is_whole = false;
                break;
            }
            items.push(item);
        }
        items.shrink_to_fit();
        Ok(Self::new(items, is_whole))
    }

    fn new(mut items: Vec<Item>, is_whole: bool) -> Self {
        items.sort_unstable_by(|a, b| compare(Key::Name, a, b));
        let sorted = |key| {
            let mut places: Vec<_> = (0..items.len()).collect();
            places.sort_unstable_by(|&a, &b| compare(key, &items[a], &items[b]));
            places
        };
        Self {
            directories: items.partition_point(|item| item.facts.is_dir()),
            by_size: sorted(Key::Size),
            by_time: sorted(Key::Time),
            is_whole,
            items,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns the entry at a place in an order, if there is one. Each order is the reverse of
    /// another, but for the directories, which stay before the files.
    pub(super) fn get(&self, order: Order, at: usize) -> Option<&Item> {
        let at = match order.is_descending {
            true if at < self.directories => self.directories - 1 - at,
            true if at < self.len() => self.len() - 1 - (at - self.directories),
            _ => at,
        };
        match order.key {
            Key::Name => self.items.get(at),
            Key::Size => self.items.get(*self.by_size.get(at)?),
            Key::Time => self.items.get(*self.by_time.get(at)?),
        }
    }

    /// Returns how many bytes it has in memory.
    pub(super) fn bytes(&self) -> usize {
        self.items.iter().map(Item::bytes).sum()
    }
}

/// For each entry that a list can have, this number of names is looked at, whether they are served
/// or not.
const NAMES_OF_ENTRY: usize = 4;

fn item(root: &Root, below: &Below) -> Option<Item> {
    let name = below.path().file_name()?.to_str()?.to_owned();
    let there = root.metadata(below).ok()?;
    let is_served = there.is_file() || there.is_dir();
    let facts = Facts::of(&there);
    is_served.then_some(Item { name, facts })
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Key {
    #[default]
    Name,
    Size,
    Time,
}

/// The order of a list. Directories are always first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
}

/// Compares in ascending order.
fn compare(key: Key, a: &Item, b: &Item) -> Ordering {
    let directories_first = b.facts.is_dir().cmp(&a.facts.is_dir());
    // The length of a directory says nothing.
    let len = |item: &Item| match item.facts.is_dir() {
        true => 0,
        false => item.facts.len(),
    };
    let by_key = match key {
        Key::Name => Ordering::Equal,
        Key::Size => len(a).cmp(&len(b)),
        Key::Time => time(a).cmp(&time(b)),
    };
    let by_name = || a.name.cmp(&b.name);
    directories_first.then(by_key).then_with(by_name)
}

fn time(item: &Item) -> Option<SystemTime> {
    item.facts.modified()
}
