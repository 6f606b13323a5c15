//! A queue for streams, most of which never queue a second item.

use std::{collections::VecDeque, mem};

use crate::spare::Spare;

/// A queue that stores its front item in place, so a single item needs no allocation.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// This is `None` only if `rest` is empty.
    front: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            front: None,
            rest: VecDeque::new(),
        }
    }

    #[inline]
    pub(crate) fn push_back(&mut self, item: T) {
        if self.front.is_none() {
            self.front = Some(item);
        } else {
            self.rest.push_back(item);
        }
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        mem::replace(&mut self.front, self.rest.pop_front())
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    #[inline]
    pub(crate) const fn front(&self) -> Option<&T> {
        self.front.as_ref()
    }

    #[inline]
    pub(crate) const fn front_mut(&mut self) -> Option<&mut T> {
        self.front.as_mut()
    }

    pub(crate) fn back_mut(&mut self) -> Option<&mut T> {
        self.rest.back_mut().or(self.front.as_mut())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.front.iter().chain(&self.rest)
    }
}

impl<T> Spare for Queue<T> {
    fn free_spare(&mut self) -> bool {
        self.rest.free_spare()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_in_the_order_they_came() {
        let mut queue = Queue::new();
        assert_eq!(queue.pop_front(), None);
        for round in 1..5 {
            for item in 0..round {
                queue.push_back(item);
                assert_eq!(queue.front(), Some(&0));
                assert_eq!(queue.back_mut().copied(), Some(item));
            }
            assert!(queue.iter().copied().eq(0..round));
            for item in 0..round {
                assert_eq!(queue.front_mut().copied(), Some(item));
                assert_eq!(queue.pop_front(), Some(item));
            }
            assert!(queue.is_empty());
            assert_eq!(queue.back_mut(), None);
        }
    }

    #[test]
    fn one_item_allocates_nothing() {
        let mut queue = Queue::new();
        for item in 0..100 {
            queue.push_back(item);
            queue.pop_front();
        }
        assert_eq!(queue.rest.capacity(), 0);
    }
}
