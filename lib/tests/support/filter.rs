//! A server between a client and a real one that answers scripts with an error on command.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use everlock_testkit::RedisServer;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The filter; dropping it takes no more connections.
pub(crate) struct Filter {
    addr: SocketAddr,
    answer: Arc<Mutex<Option<String>>>,
    server: JoinHandle<()>,
}

impl Filter {
    /// Everything passes at first.
    pub(crate) async fn in_front_of(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let answer = Arc::<Mutex<Option<String>>>::default();
        let (target, answers) = (server.addr(), Arc::clone(&answer));
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    // A peer that goes away ends it.
                    let _ = serve(client, target, &answers).await;
                });
            }
        });
        Self {
            addr,
            answer,
            server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.addr)
    }

    /// From now on scripts are answered with this line and don't reach the server.
    pub(crate) fn answer_scripts_with(&self, line: &str) {
        *self.answer.lock().unwrap() = Some(line.to_owned());
    }

    /// Everything passes again.
    pub(crate) fn pass(&self) {
        *self.answer.lock().unwrap() = None;
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    client: TcpStream,
    target: SocketAddr,
    answer: &Mutex<Option<String>>,
) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let mut server = BufReader::new(TcpStream::connect(target).await?);
    loop {
        let request = message(&mut client).await?;
        let line = answer.lock().unwrap().clone();
        let line = line.filter(|_| contains(&request, b"EVALSHA"));
        let reply = if let Some(line) = line {
            format!("{line}\r\n").into_bytes()
        } else {
            server.write_all(&request).await?;
            message(&mut server).await?
        };
        client.write_all(&reply).await?;
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

/// One RESP2 request or reply, as it came.
async fn message(from: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    let mut parts = 1;
    while parts > 0 {
        parts -= 1;
        let begins = whole.len();
        if from.read_until(b'\n', &mut whole).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&whole[begins..]).into_owned();
        let number = || line[1..].trim_end().parse::<usize>().ok();
        match line.as_bytes()[0] {
            b'*' => parts += number().unwrap_or(0),
            b'$' => {
                if let Some(len) = number() {
                    let begins = whole.len();
                    whole.resize(begins + len + 2, 0);
                    from.read_exact(&mut whole[begins..]).await?;
                }
            }
            _ => {}
        }
    }
    Ok(whole)
}
