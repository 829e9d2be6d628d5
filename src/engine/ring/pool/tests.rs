use super::*;
use crate::proto::TAIL_ROOM;

const HEADROOM: usize = 300;
const LARGE_LEN: usize = 10_000;

impl Pool {
    /// Whether every buffer is the kernel's, or can be given to it.
    pub(in crate::engine::ring) fn is_whole(&self) -> bool {
        let is_whole =
            |group: &Group| usize::from(group.given_out) + group.spare.len() == group.len();
        !self.taken.contains(&true) && is_whole(&self.small) && is_whole(&self.large)
    }
}

/// A pool and what the kernel would do with it.
struct Rig {
    pool: Pool,
    heads: [u16; 2],
}

impl Rig {
    fn new() -> Self {
        let mut pool = Pool::new(HEADROOM, LARGE_LEN);
        pool.replenish();
        Self {
            pool,
            heads: [0; 2],
        }
    }

    fn group(&self, size: Size) -> &Group {
        match size {
            Size::Small => &self.pool.small,
            Size::Large => &self.pool.large,
        }
    }

    /// How many buffers the kernel sees.
    fn offered(&self, size: Size) -> u16 {
        let head = self.heads[size as usize];
        self.group(size).seen_by_kernel(head).0.wrapping_sub(head)
    }

    /// Takes the next buffer, as a receive of `filled` bytes does.
    fn kernel_takes(&mut self, size: Size, line: &mut Line, filled: u32) -> BufferId {
        assert!(self.offered(size) > 0);
        let group = self.group(size);
        let (_tail, entry) = group.seen_by_kernel(self.heads[size as usize]);
        let id = entry.bid();
        assert_eq!(entry.addr(), group.data(id).addr().get() as u64);
        assert_eq!(entry.len() as usize, group.data_len);
        self.heads[size as usize] = self.heads[size as usize].wrapping_add(1);
        self.pool.receive(line, id, filled);
        id
    }
}

#[test]
fn the_kernel_gets_what_is_wanted_and_no_more() {
    let mut rig = Rig::new();
    assert_eq!(rig.offered(Size::Small), SMALL_WANTED);
    assert_eq!(rig.offered(Size::Large), LARGE_WANTED);
    let mut line = Line::EMPTY;
    for _ in 0..SMALL_WANTED {
        rig.kernel_takes(Size::Small, &mut line, 1);
    }
    rig.pool.missed(Size::Small);
    rig.pool.replenish();
    assert_eq!(rig.offered(Size::Small), 2 * SMALL_WANTED);
    for _ in 0..20 {
        rig.pool.missed(Size::Small);
    }
    rig.pool.replenish();
    assert_eq!(rig.offered(Size::Small), SMALL_BUFFERS - SMALL_WANTED);
    rig.pool.give_back_all(&mut line);
    rig.pool.replenish();
    assert_eq!(rig.offered(Size::Small), SMALL_BUFFERS);
    for _ in 0..20 {
        rig.pool.relax();
    }
    assert_eq!(rig.pool.small.wanted(), SMALL_WANTED);
}

#[test]
fn a_line_keeps_its_order_and_what_is_given_back_goes_out_first() {
    let mut rig = Rig::new();
    let mut line = Line::EMPTY;
    assert!(line.is_empty());
    let ids: Vec<_> = (1..=3)
        .map(|filled| rig.kernel_takes(Size::Large, &mut line, filled))
        .collect();
    for (index, &id) in ids.iter().enumerate() {
        assert_eq!(rig.pool.take_first(&mut line), Some((id, index + 1)));
    }
    assert!(line.is_empty() && rig.pool.take_first(&mut line).is_none());
    rig.pool.give_back(ids[0]);
    rig.pool.replenish();
    let last = LARGE_WANTED - 3;
    for _ in 0..last {
        rig.kernel_takes(Size::Large, &mut line, 1);
    }
    assert_eq!(rig.kernel_takes(Size::Large, &mut line, 1), ids[0]);
}

#[test]
fn small_buffers_that_wait_are_joined_in_their_order() {
    let mut rig = Rig::new();
    let mut line = Line::EMPTY;
    for byte in 1..=3 {
        let id = rig.kernel_takes(Size::Small, &mut line, 4000);
        rig.pool.slot(id, 0)[..4000].fill(byte);
    }
    let joined = rig.pool.take_joined(&mut line, 0).expect("received");
    assert_eq!(
        (joined.filled, joined.reads),
        (8000, 2),
        "as far as they fit"
    );
    let slot = rig.pool.slot(joined.buffer, HEADROOM);
    assert!(
        slot[HEADROOM..HEADROOM + 4000]
            .iter()
            .all(|&byte| byte == 1)
    );
    assert!(
        slot[HEADROOM + 4000..HEADROOM + 8000]
            .iter()
            .all(|&byte| byte == 2)
    );
    let alone = rig.pool.take_joined(&mut line, 0).expect("received");
    assert_eq!((alone.filled, alone.reads), (4000, 1));
    assert_eq!(rig.pool.headroom(alone.buffer), 0, "where it was");
    assert!(line.is_empty());

    rig.kernel_takes(Size::Small, &mut line, 10);
    let moved = rig.pool.take_joined(&mut line, 1).expect("received");
    assert_eq!((moved.filled, moved.reads), (10, 1));
    assert_eq!(rig.pool.headroom(moved.buffer), rig.pool.large.headroom);
}

#[test]
fn every_slot_has_its_room_and_shares_it_with_none() {
    let mut rig = Rig::new();
    let mut line = Line::EMPTY;
    for size in [Size::Small, Size::Large] {
        for _ in 0..20 {
            rig.pool.missed(size);
        }
        rig.pool.replenish();
        let mut spans: Vec<_> = (0..rig.offered(size))
            .map(|_| {
                let id = rig.kernel_takes(size, &mut line, 1);
                let before = rig.pool.headroom(id);
                let slot = rig.pool.slot(id, before);
                slot.fill(0xaa);
                slot.as_ptr_range()
            })
            .collect();
        spans.sort_by_key(|span| span.start);
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let data_len = rig.pool.data_len(size);
        let len = spans[0].end.addr() - spans[0].start.addr();
        let headroom = if size == Size::Large { HEADROOM } else { 0 };
        assert!(len >= headroom + data_len + TAIL_ROOM, "{size:?}");
    }
}

#[test]
#[should_panic(expected = "the kernel may write there")]
fn a_buffer_of_the_kernels_is_out_of_reach() {
    Rig::new().pool.slot(0, 0);
}

#[test]
#[should_panic(expected = "given back once")]
fn a_buffer_cannot_be_given_back_twice() {
    let mut rig = Rig::new();
    let mut line = Line::EMPTY;
    let id = rig.kernel_takes(Size::Small, &mut line, 1);
    rig.pool.give_back(id);
    rig.pool.give_back(id);
}

/// What the sanitizer would stop: this test asks it first.
#[cfg(asan)]
#[test]
fn a_buffer_that_the_kernel_has_may_not_be_looked_at() {
    let mut rig = Rig::new();
    for size in [Size::Small, Size::Large] {
        let is_forbidden = |rig: &Rig, id| poison::is_forbidden(rig.group(size).data(id));
        let mut line = Line::EMPTY;
        let first = rig.group(size).first;
        assert!(is_forbidden(&rig, first), "the kernel has it");
        let id = rig.kernel_takes(size, &mut line, 1);
        assert!(!is_forbidden(&rig, id));
        rig.pool.give_back_all(&mut line);
        assert!(is_forbidden(&rig, id), "nobody has it");
    }
}
