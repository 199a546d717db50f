//! The floor of bench/nats.exs: async-nats alone. Prints publishes, settled deliveries, and items that go in and out at the same
//! time, per second.
//!
//! Arguments: address, items, number in flight, bytes of an item, name of the streams.

use async_nats::jetstream::{self, Context, consumer::PullConsumer, consumer::pull, stream};
use futures_util::{StreamExt, future::join, stream::iter};
use std::time::Instant;

#[derive(Clone, Copy)]
struct Load {
    items: usize,
    flight: usize,
    bytes: usize,
}

fn main() -> Result<(), async_nats::Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let load = Load { items: arguments[2].parse()?, flight: arguments[3].parse()?, bytes: arguments[4].parse()? };
    payment_queue_nats::block_on(run(arguments[1].clone(), load, &arguments[5]))
}

async fn run(address: String, load: Load, name: &str) -> Result<(), async_nats::Error> {
    let context = jetstream::new(async_nats::connect(address).await?);

    let (one_by_one, consumer) = create(&context, format!("raw_{name}"), load).await?;
    let begin = Instant::now();
    publish(&context, &one_by_one, load).await;
    let published = begin.elapsed();
    let begin = Instant::now();
    consume(consumer, load).await?;
    let consumed = begin.elapsed();

    let (both, consumer) = create(&context, format!("raw_both_{name}"), load).await?;
    let begin = Instant::now();
    let ((), through) = join(publish(&context, &both, load), consume(consumer, load)).await;
    through?;
    let rates = [published, consumed, begin.elapsed()].map(|time| (load.items as f64 / time.as_secs_f64()) as u64);
    println!("{} {} {}", rates[0], rates[1], rates[2]);
    Ok(())
}

async fn create(context: &Context, name: String, load: Load) -> Result<(String, PullConsumer), async_nats::Error> {
    let config = stream::Config {
        name: name.clone(),
        subjects: vec![name.clone()],
        retention: stream::RetentionPolicy::WorkQueue,
        max_messages: load.items as i64,
        ..Default::default()
    };
    let stream = context.create_stream(config).await?;
    let config = pull::Config { durable_name: Some("raw".into()), max_ack_pending: -1, ..Default::default() };
    Ok((name, stream.create_consumer(config).await?))
}

async fn publish(context: &Context, subject: &str, load: Load) {
    iter(0..load.items)
        .for_each_concurrent(load.flight, |n| async move {
            let message = jetstream::message::PublishMessage::build()
                .payload(vec![b'x'; load.bytes].into())
                .message_id(n.to_string());
            let ack = context.send_publish(subject.to_owned(), message).await.expect("a publish");
            ack.await.expect("an ack");
        })
        .await;
}

async fn consume(consumer: PullConsumer, load: Load) -> Result<(), async_nats::Error> {
    let messages = consumer.stream().max_messages_per_batch(4 * load.flight).messages().await?;
    messages
        .take(load.items)
        .for_each_concurrent(load.flight, |message| async {
            message.expect("a message").double_ack().await.expect("a confirmation");
        })
        .await;
    Ok(())
}
