//! Rtnetlink sockets: one that follows events of a network namespace, one for listings.
#![expect(unsafe_code, reason = "a socket option that the libraries do not know")]

use std::os::fd::AsRawFd;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;

/// Receive buffer for events: a burst of this many bytes is survived without a new listing.
const EVENT_BUFFER: libc::c_int = 8 << 20;

/// Netlink cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("netlink: cannot {what}")]
pub struct NetlinkError {
    /// What was tried.
    pub what: &'static str,
    /// Cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Makes an error of a library one of this module.
pub fn failed<E>(what: &'static str) -> impl FnOnce(E) -> NetlinkError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| NetlinkError { what, source: Box::new(source) }
}

/// One event, or what the kernel says of lost ones.
pub type Message = NetlinkMessage<RouteNetlinkMessage>;

/// A subscription to the events of the current network namespace, and a second socket for listings.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    events: UnboundedReceiver<(Message, SocketAddr)>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Netlink {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Netlink {
    /// Subscribes. Events from now on are kept, so a listing made after this misses nothing.
    pub fn subscribe(groups: &[MulticastGroup]) -> Result<Self, NetlinkError> {
        let (mut following, _, events) =
            rtnetlink::new_multicast_connection(groups).map_err(failed("subscribe to events"))?;
        enlarge_buffer(following.socket_mut().as_raw_fd());
        let (listing, handle, _) = rtnetlink::new_connection().map_err(failed("open a socket for listings"))?;
        Ok(Self { handle, events, tasks: [tokio::spawn(following), tokio::spawn(listing)] })
    }

    /// For listings.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits for events and gives all that are there to `each`. `None`: the socket is gone, open another one.
    pub async fn next(&mut self, mut each: impl FnMut(Message)) -> Option<()> {
        let (first, _) = self.events.next().await?;
        each(first);
        while let Some(next) = self.events.next().now_or_never() {
            let (message, _) = next?;
            each(message);
        }
        Some(())
    }
}

/// Best effort: without the privilege the default buffer stays, and lost events lead to a new listing.
fn enlarge_buffer(fd: libc::c_int) {
    let size = EVENT_BUFFER;
    // SAFETY: `fd` is an open socket for the duration of the call, the pointer and length are those of `size`.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4),
        )
    };
    if result != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "netlink event buffer keeps its default size");
    }
}
