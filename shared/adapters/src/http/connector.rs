//! Connections to receivers: which addresses are called, how much a receiver may send
//! before it answers, and how many connections are open.

use std::future::ready;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use domain::address::{Forbidden, Guard};
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tower_service::Service;

/// How many bytes a receiver may send from one answer's head to the end of the next one's:
/// the body of the answer before, interim answers and the head itself. Without a bound, a
/// flood of `100 Continue` would keep this process busy for as long as an attempt may take.
const PER_HEAD: usize = 128 * 1024;
/// The same over HTTP/2, where the bodies of all other answers to a batch may come between two
/// heads, with twice [`STREAM_WINDOW`] each.
const PER_HEAD_HTTP2: usize = PER_HEAD + LARGEST_BATCH * 2 * STREAM_WINDOW as usize;
/// The most deliveries that a batch may have; the template sets the same limit.
const LARGEST_BATCH: usize = 100;
/// How much of a body may be under way before it is read, over HTTP/2.
pub(super) const STREAM_WINDOW: u32 = 16 * 1024;
/// Most connections that may be open at once, before the idle ones are closed.
const MOST_OPEN: usize = 256;

/// How many connections may be open at once, before the idle ones are closed: at most half
/// of the descriptors that this process may have. The other half is for SQS, Redis, name
/// servers, and the calls that are under way.
pub(super) fn most_open() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let descriptors = line.split_whitespace().next().and_then(|most| most.parse::<usize>().ok());
    descriptors.map_or(MOST_OPEN, |descriptors| MOST_OPEN.min(descriptors / 2))
}

/// How names become addresses: all that a name has, asked for once an attempt.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The machine's own resolver.
pub(super) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let resolving = tokio::task::spawn_blocking(move || (name.as_str(), 0).to_socket_addrs().map_err(blame));
            let addresses = resolving.await.map_err(io::Error::other)??;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    })
}

/// A resolver that gets no descriptor may say of it what it says of a name server that is
/// away. So it is looked at once whether there is one.
fn blame(error: io::Error) -> io::Error {
    match std::fs::File::open("/dev/null") {
        Err(ours) if is_exhaustion(&ours) => ours,
        Ok(_) | Err(_) => error,
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// One of the name's addresses must not be called.
    #[error("the name resolves to a forbidden address")]
    Forbidden(#[source] Forbidden),
    /// It took too long.
    #[error("no connection in time")]
    TimedOut,
    /// We have no descriptor, port or buffer left.
    #[error("no descriptor, port or buffer is left for a connection")]
    Exhausted(#[source] io::Error),
    /// The name has no address.
    #[error("the name cannot be resolved")]
    Lookup(#[source] io::Error),
    /// TCP or TLS failed.
    #[error("no connection can be made")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The receiver sent too much before it answered.
#[derive(Debug, thiserror::Error)]
#[error("too much came before the head of an answer")]
pub(super) struct TooMuch;

/// Whether the error tells of a limit of this process or machine, whoever is called.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS))
}

/// The errors of the system in a chain of causes. An `io::Error` hides the one it wraps
/// from `source()`.
pub(super) fn system_errors<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e io::Error> + use<'e> {
    let next = |error: &'e (dyn std::error::Error + 'static)| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => error.source(),
    };
    std::iter::successors(Some(error), move |&error| next(error)).filter_map(|error| error.downcast_ref())
}

/// What an answer says of its connection: how much more may come before the next head.
#[derive(Clone)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// A head arrived: from here to the next one counts anew.
    pub(super) fn renew(&self, version: http::Version) {
        let bytes = if version == http::Version::HTTP_2 { PER_HEAD_HTTP2 } else { PER_HEAD };
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        // One task reads a connection. Another one that renews at this moment only gives
        // or takes what a single read brought.
        let left = self.0.load(Ordering::Relaxed).checked_sub(bytes).ok_or_else(|| io::Error::other(TooMuch))?;
        self.0.store(left, Ordering::Relaxed);
        Ok(())
    }
}

/// How many connections are open, idle ones included.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenCount(Arc<AtomicUsize>);

impl OpenCount {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn open(&self) -> OpenOne {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenOne(self.clone())
    }
}

/// One open connection.
struct OpenOne(OpenCount);

impl Drop for OpenOne {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that counts what it reads, below TLS: handshakes and empty records count,
/// too. It ends when its receiver does not take what is written: the time limit of an
/// attempt only ends the wait for an answer, and a connection with unsent bytes would stay.
pub(super) struct Metered {
    tcp: TcpStream,
    allowance: Allowance,
    patience: Duration,
    /// Ends when the receiver has taken too little for too long.
    stalled: Option<Pin<Box<Sleep>>>,
    _open: OpenOne,
}

impl Metered {
    fn new(tcp: TcpStream, patience: Duration, open: &OpenCount) -> Self {
        let allowance = Allowance(Arc::new(AtomicUsize::new(PER_HEAD)));
        Self { tcp, allowance, patience, stalled: None, _open: open.open() }
    }

    /// What came of writing `wanted` bytes. Only all of them end a stall: otherwise a
    /// receiver could take one byte now and then.
    fn wrote(
        &mut self,
        wanted: usize,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(bytes)) if bytes == wanted => self.stalled = None,
            Poll::Ready(Err(_)) => {}
            Poll::Ready(Ok(_)) | Poll::Pending => {
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.patience)));
                if stalled.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        wrote
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.tcp).poll_read(cx, buffer);
        read.map(|read| read.and_then(|()| this.allowance.spend(buffer.filled().len() - before)))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.tcp).poll_write(cx, bytes);
        this.wrote(bytes.len(), cx, wrote)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.tcp).poll_write_vectored(cx, slices);
        this.wrote(slices.iter().map(|slice| slice.len()).sum(), cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

impl Connection for Metered {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.allowance.clone())
    }
}

/// Dials what a URL names: TCP to vetted addresses.
#[derive(Clone)]
struct Dialer {
    guard: Arc<Guard>,
    lookup: Lookup,
    limit: Duration,
    /// How long a receiver may take nothing.
    patience: Duration,
    open: OpenCount,
}

impl Dialer {
    /// The addresses of the URL's host, all of which may be called. A name is resolved
    /// once, and refused if any of its addresses is forbidden. The dialler gets these
    /// addresses: there is no second look-up that could answer differently.
    async fn addresses(&self, to: &Uri) -> Result<Vec<IpAddr>, ConnectError> {
        let host = to.host().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
        let mut addresses = match literal {
            Ok(address) => vec![address],
            Err(_) => (self.lookup)(host.to_owned()).await.map_err(not_resolved)?,
        };
        addresses.iter().try_for_each(|address| self.guard.vet(*address)).map_err(ConnectError::Forbidden)?;
        // A receiver may let in only the IPv4 addresses that we call from, so those come
        // first where there is a choice.
        addresses.sort_by_key(IpAddr::is_ipv6);
        Ok(addresses)
    }

    async fn dial(self, to: Uri) -> Result<TokioIo<Metered>, ConnectError> {
        let addresses = self.addresses(&to).await?;
        let ipv4: Vec<IpAddr> = addresses.iter().copied().filter(IpAddr::is_ipv4).collect();
        let has_both = !ipv4.is_empty() && ipv4.len() < addresses.len();
        let mut dialled = self.connect(addresses, to.clone()).await;
        // The error is of the family that was tried last. Where this machine has no IPv6, it
        // hides what became of IPv4.
        if has_both && dialled.as_ref().is_err_and(has_no_way) {
            dialled = self.connect(ipv4, to).await;
        }
        Ok(TokioIo::new(Metered::new(dialled?, self.patience, &self.open)))
    }

    async fn connect(&self, addresses: Vec<IpAddr>, to: Uri) -> Result<TcpStream, ConnectError> {
        let only_ipv4 = addresses.iter().all(IpAddr::is_ipv4);
        let mut tcp = HttpConnector::new_with_resolver(Resolved(addresses));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.limit));
        tcp.call(to).await.map(TokioIo::into_inner).map_err(|error| not_dialled(error, only_ipv4))
    }
}

/// Whether this machine has no address to call from, or no route.
fn has_no_way(error: &ConnectError) -> bool {
    let no_way = [libc::EADDRNOTAVAIL, libc::ENETUNREACH, libc::EAFNOSUPPORT];
    let found = |error: &io::Error| error.raw_os_error().is_some_and(|code| no_way.contains(&code));
    matches!(error, ConnectError::Broken(source) if system_errors(&**source).any(found))
}

fn not_resolved(error: io::Error) -> ConnectError {
    if is_exhaustion(&error) { ConnectError::Exhausted(error) } else { ConnectError::Lookup(error) }
}

fn not_dialled<E>(error: E, only_ipv4: bool) -> ConnectError
where
    E: std::error::Error + Send + Sync + 'static,
{
    // No port is left for this address. Over IPv6 it may also mean that this machine has no
    // address to call from, and then it is this receiver that cannot be reached.
    let no_port = |error: &io::Error| only_ipv4 && error.raw_os_error() == Some(libc::EADDRNOTAVAIL);
    let ours = system_errors(&error).find(|error| is_exhaustion(error) || no_port(error));
    match ours.and_then(io::Error::raw_os_error) {
        Some(code) => ConnectError::Exhausted(io::Error::from_raw_os_error(code)),
        None => ConnectError::Broken(error.into()),
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Metered>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<TokioIo<Metered>, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().dial(to))
    }
}

/// A name whose addresses are known.
#[derive(Clone)]
struct Resolved(Vec<IpAddr>);

impl Service<Name> for Resolved {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        let addresses: Vec<SocketAddr> = self.0.iter().map(|address| SocketAddr::new(*address, 0)).collect();
        ready(Ok(addresses.into_iter()))
    }
}

/// Makes connections, with TLS where the URL says so, within a time limit.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dialer>,
    limit: Duration,
}

impl Connector {
    /// A connector whose connections are counted in `open`.
    pub(super) fn new(
        guard: Arc<Guard>,
        lookup: Lookup,
        tls: Arc<ClientConfig>,
        limit: Duration,
        patience: Duration,
        open: OpenCount,
    ) -> Self {
        let dialer = Dialer { guard, lookup, limit, patience, open };
        Self { https: HttpsConnector::from((dialer, tls)), limit }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<Metered>>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = timeout(self.limit, self.https.call(to));
        Box::pin(async move {
            let connected = connecting.await.map_err(|_| ConnectError::TimedOut)?;
            connected.map_err(|error| match error.downcast::<ConnectError>() {
                Ok(known) => *known,
                Err(error) => ConnectError::Broken(error),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialled(code: i32, only_ipv4: bool) -> ConnectError {
        // As the dialler wraps it.
        #[derive(Debug, thiserror::Error)]
        #[error("tcp connect error")]
        struct Wrapped(#[source] io::Error);
        not_dialled(Wrapped(io::Error::from_raw_os_error(code)), only_ipv4)
    }

    #[test]
    fn what_this_machine_lacks_is_told_from_what_the_receiver_does() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS] {
            assert!(matches!(dialled(code, true), ConnectError::Exhausted(_)), "{code}");
            assert!(matches!(dialled(code, false), ConnectError::Exhausted(_)), "{code}");
        }
        for code in [libc::ECONNREFUSED, libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ETIMEDOUT, libc::ECONNRESET] {
            assert!(matches!(dialled(code, true), ConnectError::Broken(_)), "{code}");
        }
        assert!(matches!(dialled(libc::EADDRNOTAVAIL, true), ConnectError::Exhausted(_)), "no port is left");
        assert!(matches!(dialled(libc::EADDRNOTAVAIL, false), ConnectError::Broken(_)), "there is no IPv6 here");
    }

    #[test]
    fn only_a_missing_way_is_no_word_on_the_other_family() {
        for code in [libc::EADDRNOTAVAIL, libc::ENETUNREACH, libc::EAFNOSUPPORT] {
            assert!(has_no_way(&dialled(code, false)), "{code}");
        }
        for code in [libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EMFILE] {
            assert!(!has_no_way(&dialled(code, false)), "{code}");
        }
    }

    #[test]
    fn a_system_error_is_found_below_others() {
        let inner = io::Error::from_raw_os_error(libc::EMFILE);
        let outer = io::Error::other(io::Error::other(ConnectError::Lookup(inner)));
        assert!(system_errors(&outer).any(is_exhaustion));
        assert!(!system_errors(&io::Error::other(TooMuch)).any(is_exhaustion));
    }
}
