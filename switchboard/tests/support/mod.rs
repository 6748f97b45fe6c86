//! Services and a private directory for the tests of this crate.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use switchboard::prelude::*;
use switchboard::rkyv::{self, Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, rkyv::Archive, Serialize, Deserialize)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

#[derive(Debug, Clone, PartialEq, rkyv::Archive, Serialize, Deserialize)]
pub struct Polygon {
    pub name: String,
    pub points: Vec<Point>,
}

#[service]
pub trait Demo {
    fn echo(&self, ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status>;
    fn sum(&self, ctx: &Context<'_>, values: &Archived<Vec<f32>>, scale: f32) -> Result<f32, Status>;
    fn repeat(&self, ctx: &Context<'_>, text: &str, times: u32) -> Result<String, Status>;
    fn bytes(&self, ctx: &Context<'_>, bytes: &[u8]) -> Result<Vec<u8>, Status>;
    fn perimeter(&self, ctx: &Context<'_>, polygon: &Archived<Polygon>) -> Result<Point, Status>;
    fn fail(&self, ctx: &Context<'_>, code: u8) -> Result<(), Status>;
    /// So many bytes, after so long, whoever still waits.
    fn late(&self, ctx: &Context<'_>, ms: u64, len: u32) -> Result<Vec<u8>, Status>;
    /// Busy for so long, or until nobody waits; says whether that ended it.
    fn work(&self, ctx: &Context<'_>, ms: u64) -> Result<bool, Status>;
}

#[service]
pub trait Gate {
    fn hold(&self, ctx: &Context<'_>) -> Result<(), Status>;
    fn count(&self, ctx: &Context<'_>) -> Result<(), Status>;
}

/// A directory of its own, removed at the end.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("switchboard-test-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).expect("the name is unique");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the directory is ours");
    }
}

pub fn board() -> (Switchboard, TempDir) {
    let dir = TempDir::new();
    let board = Switchboard::builder().in_process(false).runtime_dir(dir.path()).open().expect("the directory is ours");
    (board, dir)
}
