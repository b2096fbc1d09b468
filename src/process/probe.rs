//! One look at whether somebody answers.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Connects to `HOST:PORT`, trying each of its addresses. Waits at most `timeout` in all.
///
/// # Errors
///
/// Why the last address did not answer, in words.
pub(crate) fn look_tcp(address: &str, timeout: Duration) -> Result<(), String> {
    connect(address, Instant::now() + timeout).map(drop).map_err(|error| format!("{address}: {error}"))
}

/// Asks for an `http://` URL; an answer with a status below 400 is good. Waits at most `timeout` in all.
///
/// # Errors
///
/// What went wrong, or the status that came, in words.
pub(crate) fn look_http(url: &str, timeout: Duration) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    match ask(url, deadline) {
        Ok(status) if status < 400 => Ok(()),
        Ok(status) => Err(format!("{url}: it answered with status {status}")),
        Err(error) => Err(format!("{url}: {error}")),
    }
}

fn ask(url: &str, deadline: Instant) -> io::Result<u16> {
    let rest =
        url.strip_prefix("http://").ok_or_else(|| io::Error::other("only http:// URLs can be asked for"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut stream = connect(&address, deadline)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    // In one piece: a server that answers after the first, and closes, would break the others.
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: mpflow\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    // `HTTP/1.1 200` is all that is needed.
    let mut head = [0; 12];
    let mut filled = 0;
    while filled < head.len() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut head[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let text = String::from_utf8_lossy(&head[..filled]);
    let status = text.strip_prefix("HTTP/").and_then(|line| line.split(' ').nth(1)?.parse().ok());
    status.ok_or_else(|| io::Error::other("what it answered is not HTTP"))
}

fn connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn serve_once(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 512];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer.as_bytes());
        });
        address
    }

    #[test]
    fn a_port_that_listens_answers_and_one_that_does_not_is_named() {
        let address = serve_once("");
        assert_eq!(look_tcp(&address, LONG), Ok(()));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(look_tcp(&free, LONG).unwrap_err().contains(&free));
    }

    #[test]
    fn the_status_decides() {
        let at = |answer| format!("http://{}/health", serve_once(answer));
        assert_eq!(look_http(&at("HTTP/1.1 204 No Content\r\n\r\n"), LONG), Ok(()));
        assert!(look_http(&at("HTTP/1.1 503 Busy\r\n\r\n"), LONG).unwrap_err().contains("503"));
        assert!(look_http(&at("SSH-2.0-x\r\n\r\n"), LONG).unwrap_err().contains("not HTTP"));
    }
}
