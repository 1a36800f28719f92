//! Writing events to standard output, without holding up the rest of the program.

use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;
use trunkline::bytes::Bytes;
use trunkline::{Delivery, Error, Event, Result, cloudevents};

use crate::terminal::harmless;

/// A thread that writes: whoever reads standard output may take its time, and a write cannot be
/// called off.
pub(super) struct Output(mpsc::Sender<(Bytes, oneshot::Sender<Written>)>);

/// What became of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// It is out.
    Out,
    /// The reader has seen enough and went away.
    NobodyReads,
    /// It failed.
    Failed(io::Error),
}

impl Output {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system has no thread for it.
    pub(super) fn start() -> io::Result<Self> {
        let (texts, receiver) = mpsc::channel::<(Bytes, oneshot::Sender<Written>)>();
        let writing = move || {
            for (text, done) in receiver {
                let mut out = io::stdout().lock();
                let written = match out.write_all(&text).and_then(|()| out.flush()) {
                    Ok(()) => Written::Out,
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Written::NobodyReads,
                    Err(error) => Written::Failed(error),
                };
                // Nobody waits for the answer once the program is on its way out.
                drop(done.send(written));
            }
        };
        thread::Builder::new().name("output".to_owned()).spawn(writing)?;
        Ok(Self(texts))
    }

    /// Writes all of it.
    pub(super) async fn write(&self, text: Bytes) -> Written {
        let (done, written) = oneshot::channel();
        if self.0.send((text, done)).is_err() {
            return Written::Failed(io::Error::other("the writing thread has ended"));
        }
        let gone = |_| Written::Failed(io::Error::other("the writing thread has ended"));
        written.await.unwrap_or_else(gone)
    }
}

/// The line of an event, with its end.
///
/// # Errors
/// When the message is no event.
pub(super) fn line(delivery: &Delivery, as_json: bool) -> Result<Vec<u8>> {
    if let Some(defect) = delivery.defect() {
        return Err(defect.duplicate());
    }
    let event = delivery.event();
    let mut line = match as_json {
        true => cloudevents::to_json(event)?.to_vec(),
        false => for_people(event)?.into_bytes(),
    };
    line.push(b'\n');
    Ok(line)
}

fn for_people(event: &Event) -> Result<String, Error> {
    let attributes = event.attributes();
    let time = attributes.time().map_or_else(|| "-".to_owned(), |time| time.to_string());
    let key = attributes.key().unwrap_or("-");
    let data = event.data()?;
    let data = match std::str::from_utf8(data.as_slice()) {
        Ok(text) => harmless(text),
        Err(_) => format!("({} bytes)", data.as_slice().len()),
    };
    let (topic, event_type) = (event.topic().as_str(), attributes.event_type());
    let fields = [&time, topic, event_type, &event.id().to_string(), key].map(harmless);
    Ok(format!("{}  {data}", fields.join("  ")))
}
