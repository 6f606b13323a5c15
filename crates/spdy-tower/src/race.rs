//! One connection to a host with several addresses.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{net::TcpStream, time::sleep};

/// Connects to the first of several addresses that answers (Happy Eyeballs, [RFC 8305]). The
/// transport has TCP_NODELAY.
///
/// The addresses are tried in their order, except that the two versions of IP take turns. The next
/// one is tried when the one before has failed or has been silent for 250 ms, and both go on.
/// Addresses after the first 64 are not tried.
///
/// There is no timeout but that of the system. Dropping the future closes all attempts.
///
/// # Errors
///
/// If all have failed, the error of the address that failed first, with two exceptions. That this
/// machine has no descriptor, memory or port left comes before what an address says. Errors of
/// addresses of IPv6 that a machine without IPv6 gives, such as `AddrNotAvailable`, come last.
/// `NotFound` if there are no addresses.
///
/// [RFC 8305]: https://www.rfc-editor.org/rfc/rfc8305
pub async fn connect_any(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let transport = race(addresses, TcpStream::connect).await?;
    transport.set_nodelay(true)?;
    Ok(transport)
}

async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut next = taking_turns(addresses.into_iter().take(MAX_ADDRESSES));
    let mut attempts = Vec::new();
    let mut failed = None;
    loop {
        match next.pop_front() {
            Some(address) => {
                let attempt = connect(address);
                attempts.push(Box::pin(async move {
                    let about = |error| (About::new(address, &error), error);
                    attempt.await.map_err(about)
                }));
            }
            None if attempts.is_empty() => {
                return Err(failed.map_or_else(no_address, |(_, error)| error));
            }
            None => {}
        }
        tokio::select! {
            biased;
            ended = poll_fn(|cx| first(&mut attempts, cx)) => match ended {
                Ok(transport) => return Ok(transport),
                Err(error) => failed = Some(telling(failed, error)),
            },
            () = sleep(ATTEMPT_DELAY), if !next.is_empty() => {}
        }
    }
}

/// Returns the result of the attempt that ends first, and removes it.
fn first<F: Future>(attempts: &mut Vec<Pin<Box<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    for index in 0..attempts.len() {
        if let Poll::Ready(ended) = attempts[index].as_mut().poll(cx) {
            drop(attempts.remove(index));
            return Poll::Ready(ended);
        }
    }
    Poll::Pending
}

/// Orders addresses so that IPv4 and IPv6 take turns, beginning with the version of the first.
fn taking_turns(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut addresses = addresses.peekable();
    let is_first_v6 = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.partition(|address| address.is_ipv6() == is_first_v6);
    let mut ordered = VecDeque::with_capacity(one.len() + other.len());
    while !(one.is_empty() && other.is_empty()) {
        ordered.extend(one.pop_front());
        ordered.extend(other.pop_front());
    }
    ordered
}

/// What an error is about. The greatest is what a caller has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    /// This machine has no IPv6, or no way to this address of it.
    Ipv6,
    /// The address.
    Address,
    /// This machine has nothing left for another connection, whatever the address.
    Machine,
}

impl About {
    fn new(address: SocketAddr, error: &io::Error) -> Self {
        use io::ErrorKind::{AddrNotAvailable, NetworkUnreachable, OutOfMemory};

        let is_one_of = |codes: &[i32]| error.raw_os_error().is_some_and(|it| codes.contains(&it));
        match error.kind() {
            AddrNotAvailable | NetworkUnreachable if address.is_ipv6() => Self::Ipv6,
            _ if address.is_ipv6() && is_one_of(NO_FAMILY) => Self::Ipv6,
            // No port is free: each machine has addresses of IPv4.
            AddrNotAvailable | OutOfMemory => Self::Machine,
            _ if is_one_of(NOTHING_LEFT) => Self::Machine,
            _ => Self::Address,
        }
    }
}

/// An error, and what it is about.
type Failed = (About, io::Error);

/// Returns the error that a caller has to know rather, or the first.
fn telling(first: Option<Failed>, next: Failed) -> Failed {
    match first {
        Some(first) if first.0 >= next.0 => first,
        _ => next,
    }
}

/// EAFNOSUPPORT.
const NO_FAMILY: &[i32] = match () {
    () if cfg!(target_os = "linux") => &[97],
    () if cfg!(unix) => &[47],
    () => &[],
};

/// ENFILE, EMFILE and ENOBUFS.
const NOTHING_LEFT: &[i32] = match () {
    () if cfg!(target_os = "linux") => &[23, 24, 105],
    () if cfg!(unix) => &[23, 24, 55],
    () => &[],
};

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the host has no address")
}

/// How long an address may be silent before the next one is tried too, as RFC 8305 §5 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How many addresses of a host are tried. More than any host has that means well.
const MAX_ADDRESSES: usize = 64;

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending};

    use tokio::time::{Instant, timeout};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What an address does.
    #[derive(Clone, Copy)]
    enum Host {
        Answers(u64),
        Refuses(u64),
        Silent,
    }

    /// Returns the port that a race of hosts ends with, or the error, and the milliseconds it took.
    async fn race_of(hosts: &[Host]) -> (Result<u16, String>, u64) {
        let addresses = (0..hosts.len()).map(|port| SocketAddr::from(([10, 0, 0, 1], port as u16)));
        let began = Instant::now();
        let won = race(addresses, async |address| {
            match hosts[usize::from(address.port())] {
                Host::Answers(after) => {
                    sleep(Duration::from_millis(after)).await;
                    Ok(address.port())
                }
                Host::Refuses(after) => {
                    sleep(Duration::from_millis(after)).await;
                    Err(io::Error::other(format!("{} refuses", address.port())))
                }
                Host::Silent => pending().await,
            }
        });
        let won = timeout(Duration::from_secs(60), won)
            .await
            .expect("a race that ends");
        let won = won.map_err(|error| error.to_string());
        (won, began.elapsed().as_millis() as u64)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_addresses_cost_a_quarter_of_a_second_each() {
        use Host::{Answers, Silent};

        assert_eq!(race_of(&[Silent, Answers(7)]).await, (Ok(1), 257));
        assert_eq!(race_of(&[Silent, Silent, Answers(7)]).await, (Ok(2), 507));
        // The first one goes on while the second one is tried.
        assert_eq!(race_of(&[Answers(300), Answers(100)]).await, (Ok(0), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_costs_no_wait() {
        use Host::{Answers, Refuses, Silent};

        assert_eq!(race_of(&[Refuses(3), Answers(7)]).await, (Ok(1), 10));
        assert_eq!(
            race_of(&[Silent, Refuses(3), Answers(7)]).await,
            (Ok(2), 260)
        );
        let all = race_of(&[Refuses(3), Refuses(1)]).await;
        assert_eq!(all, (Err("0 refuses".to_owned()), 4));
        let none = race_of(&[]).await;
        assert_eq!(none, (Err("the host has no address".to_owned()), 0));
    }

    /// Returns the error of a race in which all of the addresses have failed.
    async fn lost<E: Into<io::Error> + Copy>(failures: &[(&str, E)]) -> io::Error {
        let addresses: Vec<_> = failures.iter().map(|(host, _)| address(host)).collect();
        let error = |asked: SocketAddr| {
            let mut pairs = addresses.iter().zip(failures);
            let (_, (_, error)) = pairs.find(|(its, _)| **its == asked).unwrap();
            (*error).into()
        };
        let outcome: io::Result<()> = race(addresses.clone(), async |it| Err(error(it))).await;
        outcome.unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_without_ipv6_says_so_only_if_no_address_says_more() {
        use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, NetworkUnreachable, TimedOut};

        let (six, other, four) = ("[::1]:1", "[::2]:1", "10.0.0.1:1");
        for none in [AddrNotAvailable, NetworkUnreachable] {
            for (failures, expected) in [
                ([(six, none), (four, ConnectionRefused)], ConnectionRefused),
                ([(four, TimedOut), (six, none)], TimedOut),
                ([(six, none), (other, ConnectionRefused)], ConnectionRefused),
                ([(six, none), (other, none)], none),
            ] {
                assert_eq!(lost(&failures).await.kind(), expected, "{failures:?}");
            }
        }
        let failures = [(six, NetworkUnreachable), (four, NetworkUnreachable)];
        assert_eq!(lost(&failures).await.kind(), NetworkUnreachable);
    }

    /// The name `localhost` has both addresses, and many applications listen at one alone.
    #[tokio::test(start_paused = true)]
    async fn that_this_machine_has_nothing_left_is_the_error_whatever_another_address_says() {
        use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, OutOfMemory};

        let (six, four) = ("[::1]:1", "127.0.0.1:1");
        for lack in [AddrNotAvailable, OutOfMemory] {
            let refused = (six, ConnectionRefused);
            for failures in [[refused, (four, lack)], [(four, lack), refused]] {
                assert_eq!(lost(&failures).await.kind(), lack, "{failures:?}");
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn codes_of_the_system_are_known() {
        #[derive(Clone, Copy)]
        struct Code(i32);

        impl From<Code> for io::Error {
            fn from(Code(code): Code) -> Self {
                Self::from_raw_os_error(code)
            }
        }

        const REFUSED: i32 = 111;
        for (on_six, on_four, expected) in [
            // EMFILE, ENFILE, ENOBUFS, ENOMEM and EADDRNOTAVAIL.
            (REFUSED, 24, 24),
            (REFUSED, 23, 23),
            (REFUSED, 105, 105),
            (REFUSED, 12, 12),
            (REFUSED, 99, 99),
            // EAFNOSUPPORT and ENETUNREACH.
            (97, REFUSED, REFUSED),
            (101, REFUSED, REFUSED),
        ] {
            let failures = [("[::1]:1", Code(on_six)), ("127.0.0.1:1", Code(on_four))];
            let told = lost(&failures).await.raw_os_error();
            assert_eq!(told, Some(expected), "{on_six} {on_four}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_beyond_the_limit_are_not_tried() {
        let tried = RefCell::new(0);
        let addresses = vec![address("10.0.0.1:80"); 1000];
        let outcome: io::Result<()> = race(addresses, async |_| {
            *tried.borrow_mut() += 1;
            Err(io::Error::other("refused"))
        })
        .await;
        outcome.unwrap_err();
        assert_eq!(*tried.borrow(), MAX_ADDRESSES);
    }

    #[test]
    fn the_versions_of_ip_take_turns() {
        let [a, b, c] = ["[::1]:1", "[::2]:1", "[::3]:1"].map(address);
        let [d, e] = ["10.0.0.1:1", "10.0.0.2:1"].map(address);
        let ordered = |addresses: &[SocketAddr]| -> Vec<SocketAddr> {
            taking_turns(addresses.iter().copied()).into()
        };
        assert_eq!(ordered(&[a, b, c, d, e]), [a, d, b, e, c]);
        assert_eq!(ordered(&[d, a, b, c]), [d, a, b, c]);
        assert_eq!(ordered(&[d, e]), [d, e]);
        assert!(ordered(&[]).is_empty());
    }
}
