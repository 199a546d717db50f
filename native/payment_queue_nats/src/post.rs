//! The way to the server and back for all that wants an answer: one subscription for the answers of a queue, one task that
//! sends, listens and watches the time. A task, a subscription or a timer for each letter would cost more than the letter does.

use crate::error::Failure;
use crate::runtime;
use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

/// How long one attempt waits for its answer. A failover takes longer, so there are several.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Between two attempts, and between two looks at a connection that is down.
const PAUSE: Duration = Duration::from_millis(100);

/// Letters on their way at one time: what a server on a busy machine answers well within an attempt. More would only wait there, be
/// sent again, and make it slower yet.
const WINDOW: usize = 4_096;

/// Answers read before the next letters are sent.
const AT_ONCE: usize = 512;

/// What came of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The server did it.
    Done,
    /// The server knows a message with this id; by an earlier attempt of this letter, if one was not answered.
    Duplicate { maybe_ours: bool },
    /// The stream holds as much as it may.
    Full,
    /// More than the server takes in one message.
    TooLarge,
    /// Nothing that would decide it, until the deadline.
    Silence,
}

/// What is sent until it is answered.
pub(crate) struct Letter {
    pub(crate) subject: Subject,
    /// May be empty.
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
    /// What an answer says; `None`: nothing, it is to be asked again.
    pub(crate) read: fn(&Message) -> Option<Answer>,
    pub(crate) deadline: Instant,
}

type Done = Box<dyn FnOnce(Answer) + Send>;

/// Where letters are handed in. From any thread; nobody waits.
#[derive(Default)]
pub(crate) struct Post {
    new: Mutex<Vec<(Letter, Done)>>,
    wake: Notify,
}

impl Post {
    /// Opens the post of a client, and begins to serve.
    pub(crate) async fn open(client: &Client) -> Result<Arc<Self>, Failure> {
        let post = Arc::new(Self::default());
        let replies = client.new_inbox();
        let answers =
            client.subscribe(format!("{replies}.*")).await.map_err(|error| Failure::of("subscribe", &error))?;
        let clerk = Clerk {
            post: post.clone(),
            client: client.clone(),
            replies,
            answers,
            open: HashMap::new(),
            last: 0,
            on_way: 0,
            backlog: VecDeque::new(),
            times: BinaryHeap::new(),
        };
        runtime::spawn(clerk.serve());
        Ok(post)
    }

    /// `done` is called once, on a thread of the runtime, at the deadline at the latest, give or take a pause.
    pub(crate) fn send(&self, letter: Letter, done: impl FnOnce(Answer) + Send + 'static) {
        let first = {
            let mut new = self.new.lock();
            new.push((letter, Box::new(done)));
            new.len() == 1
        };
        // Whoever finds others waiting knows that they have called.
        if first {
            self.wake.notify_one();
        }
    }

    /// As [`Post::send`], for a task.
    pub(crate) async fn ask(&self, letter: Letter) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.send(letter, |answer| {
            let _ = sender.send(answer);
        });
        answer.await.unwrap_or(Answer::Silence)
    }
}

struct Open {
    letter: Letter,
    done: Done,
    /// Raised with each sending: a time that names an earlier one has passed for nothing.
    attempt: u32,
    /// Counted in `Clerk::on_way`.
    on_way: bool,
    /// An attempt ended without an answer that says what the server did.
    unknown: bool,
}

struct Clerk {
    post: Arc<Post>,
    client: Client,
    replies: String,
    answers: Subscriber,
    /// By number, which is the end of the subject that the answer goes to: that of all attempts of a letter, so that a late answer
    /// counts, too.
    open: HashMap<u64, Open>,
    last: u64,
    on_way: usize,
    /// To be sent as soon as there is a connection and room.
    backlog: VecDeque<u64>,
    /// When an attempt, or the pause after it, is over: time, number, attempt. At most some seconds ahead. Answered letters leave theirs.
    times: BinaryHeap<Reverse<(Instant, u64, u32)>>,
}

enum Sent {
    Yes,
    TooLarge,
    /// There is no connection, or it takes no more.
    NotNow,
}

impl Clerk {
    async fn serve(mut self) {
        loop {
            self.collect();
            self.send().await;
            let blocked = (!self.backlog.is_empty()).then(|| Instant::now() + PAUSE);
            let passed = self.times.peek().map(|Reverse((at, ..))| *at);
            let next = [blocked, passed].into_iter().flatten().min();
            tokio::select! {
                answer = self.answers.next() => match answer {
                    Some(answer) => self.heard_all(answer),
                    // The client was shut down; nothing of ours does that.
                    None => return,
                },
                () = self.post.wake.notified() => {}
                () = until(next), if next.is_some() => self.time_passed(),
            }
        }
    }

    fn collect(&mut self) {
        let new = std::mem::take(&mut *self.post.new.lock());
        for (letter, done) in new {
            self.last += 1;
            self.open.insert(self.last, Open { letter, done, attempt: 0, on_way: false, unknown: false });
            self.backlog.push_back(self.last);
        }
    }

    async fn send(&mut self) {
        if self.backlog.is_empty() || self.client.connection_state() != State::Connected {
            return;
        }
        while self.on_way < WINDOW
            && let Some(number) = self.backlog.pop_front()
        {
            let Some(open) = self.open.get_mut(&number).filter(|open| !open.on_way) else { continue };
            let now = Instant::now();
            if open.letter.deadline <= now {
                self.finish(number, Answer::Silence);
                continue;
            }
            match put(&self.client, &self.replies, number, &open.letter).await {
                Sent::Yes => {
                    open.attempt += 1;
                    open.on_way = true;
                    self.on_way += 1;
                    let over = open.letter.deadline.min(now + ATTEMPT);
                    self.times.push(Reverse((over, number, open.attempt)));
                }
                Sent::TooLarge => self.finish(number, Answer::TooLarge),
                Sent::NotNow => return self.backlog.push_front(number),
            }
        }
    }

    fn heard_all(&mut self, first: Message) {
        self.heard(&first);
        for _ in 1..AT_ONCE {
            match self.answers.next().now_or_never() {
                Some(Some(answer)) => self.heard(&answer),
                _ => return,
            }
        }
    }

    fn heard(&mut self, answer: &Message) {
        let Some(number) = answer.subject.rsplit('.').next().and_then(|text| text.parse().ok()) else { return };
        // It was answered before, or it was too late.
        let Some(open) = self.open.get_mut(&number) else { return };
        let heard = answer.status != Some(StatusCode::NO_RESPONDERS);
        match heard.then(|| (open.letter.read)(answer)).flatten() {
            // After an unknown end it would be no honest answer: the letter itself may be what filled the stream.
            Some(Answer::Full) if open.unknown => self.again(number),
            Some(Answer::Duplicate { .. }) => {
                let maybe_ours = open.unknown;
                self.finish(number, Answer::Duplicate { maybe_ours });
            }
            Some(answer) => self.finish(number, answer),
            None => {
                open.unknown = true;
                self.again(number);
            }
        }
    }

    /// After a pause, if there is time for one.
    fn again(&mut self, number: u64) {
        let Some(open) = self.open.get_mut(&number) else { return };
        if std::mem::take(&mut open.on_way) {
            self.on_way -= 1;
        }
        let at = Instant::now() + PAUSE;
        if at >= open.letter.deadline {
            return self.finish(number, Answer::Silence);
        }
        self.times.push(Reverse((at, number, open.attempt)));
    }

    fn time_passed(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = self.times.peek()
            && *at <= now
            && let Some(Reverse((_, number, attempt))) = self.times.pop()
        {
            match self.open.get_mut(&number) {
                Some(open) if open.attempt == attempt && open.on_way => {
                    open.unknown = true;
                    self.again(number);
                }
                Some(open) if open.attempt == attempt => self.backlog.push_back(number),
                _ => {}
            }
        }
        let late = |number: &u64| self.open.get(number).is_some_and(|open| open.letter.deadline <= now);
        let late: Vec<u64> = self.backlog.iter().copied().filter(late).collect();
        late.into_iter().for_each(|number| self.finish(number, Answer::Silence));
        self.backlog.retain(|number| self.open.contains_key(number));
    }

    fn finish(&mut self, number: u64, answer: Answer) {
        let Some(open) = self.open.remove(&number) else { return };
        if open.on_way {
            self.on_way -= 1;
        }
        // A panic of one must not silence all others.
        let _ = catch_unwind(AssertUnwindSafe(|| (open.done)(answer)));
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}

async fn put(client: &Client, replies: &str, number: u64, letter: &Letter) -> Sent {
    let Letter { subject, headers, payload, .. } = letter;
    let (subject, reply, payload) = (subject.clone(), format!("{replies}.{number}"), payload.clone());
    let sent = async {
        if headers.is_empty() {
            client.publish_with_reply(subject, reply, payload).await
        } else {
            client.publish_with_reply_and_headers(subject, reply, headers.clone(), payload).await
        }
    };
    match timeout(PAUSE, sent).await {
        Ok(Ok(())) => Sent::Yes,
        Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => Sent::TooLarge,
        _ => Sent::NotNow,
    }
}
