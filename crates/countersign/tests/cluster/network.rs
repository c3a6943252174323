//! The wires between the machines: what a partition cuts.
//!
//! All run on one machine here, so every connection that a partition may concern goes over a wire of ours, which can be
//! cut. Works everywhere, also where the kernel lets nobody make networks of their own.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::AbortHandle,
};

/// What becomes of bytes on a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// They arrive.
    Open,
    /// They wait until the wire is open again, and so do closed ends: neither side learns anything. This is how a network
    /// breaks and heals, with what was on its way delivered late.
    Held,
    /// Every connection is cut and no new one is made, and both sides learn it at once: a network that says no.
    Refused,
}

/// A way to a program, for one of those who talk to it.
pub(crate) struct Wire {
    /// Where its users connect to.
    pub(crate) address: SocketAddr,
    flow: watch::Sender<Flow>,
    listening: AbortHandle,
}

impl Wire {
    /// Lays a wire to an address.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let (flow, seen) = watch::channel(Flow::Open);
        let listening = tokio::spawn(listen(listener, target, seen)).abort_handle();
        Self { address, flow, listening }
    }

    /// Sets what becomes of bytes from now on.
    pub(crate) fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, target: SocketAddr, flow: watch::Receiver<Flow>) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(connect(near, target, flow.clone()));
    }
}

/// Serves one connection until an end closes it or the wire refuses it.
async fn connect(near: TcpStream, target: SocketAddr, mut flow: watch::Receiver<Flow>) -> Option<()> {
    pass(&mut flow).await?;
    let far = TcpStream::connect(target).await.ok()?;
    for stream in [&near, &far] {
        stream.set_nodelay(true).ok()?;
    }
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    let there = tokio::spawn(carry(near_reader, far_writer, flow.clone()));
    carry(far_reader, near_writer, flow).await;
    there.await.ok()?
}

/// Carries bytes in one direction, and at last the end of them.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
) -> Option<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = tokio::select! {
            read = from.read(&mut buffer) => read.ok()?,
            () = refused(&mut flow) => 0,
        };
        pass(&mut flow).await?;
        if count == 0 {
            return None;
        }
        to.write_all(&buffer[..count]).await.ok()?;
    }
}

/// Waits until bytes may pass; `None` if they never will.
async fn pass(flow: &mut watch::Receiver<Flow>) -> Option<()> {
    let now = *flow.wait_for(|flow| *flow != Flow::Held).await.ok()?;
    (now == Flow::Open).then_some(())
}

async fn refused(flow: &mut watch::Receiver<Flow>) {
    if flow.wait_for(|flow| *flow == Flow::Refused).await.is_err() {
        std::future::pending::<()>().await;
    }
}
