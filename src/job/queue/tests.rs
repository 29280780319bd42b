//! Tests of `queue.rs`.

use proptest::prelude::*;

use super::*;

proptest! {
    /// Jobs are served at the position that was reported and in order for each caller, and no caller gets a second turn
    /// before the others have had their first.
    #[test]
    fn positions_are_true_and_turns_are_fair(callers in proptest::collection::vec(0_usize..5, 1..60), served in 0_usize..20) {
        let names: Vec<Principal> = (0..5).map(|number| Principal::from_proxy(&format!("c{number}"))).collect();
        let mut queue = FairQueue::default();
        for (key, caller) in callers.iter().enumerate() {
            queue.push(&names[*caller], key, key);
        }
        for _ in 0..served {
            queue.pop_where(|_, _| true);
        }
        let waiting: Vec<usize> = (0..callers.len()).filter(|key| queue.position(key).is_some()).collect();
        prop_assert_eq!(waiting.len(), queue.len());
        let told: Vec<usize> = waiting.iter().map(|key| queue.position(key).unwrap()).collect();
        let lens: Vec<usize> = names.iter().map(|caller| queue.len_of(caller)).collect();
        let mut had = [0_usize; 5];
        let mut last = [None; 5];
        let mut position = 0;
        while let Some((_, key)) = queue.pop_where(|_, _| true) {
            position += 1;
            prop_assert_eq!(told[waiting.iter().position(|other| *other == key).unwrap()], position);
            let caller = callers[key];
            prop_assert!(last[caller] < Some(key), "in order");
            last[caller] = Some(key);
            had[caller] += 1;
            for other in 0..5 {
                prop_assert!(had[caller] <= had[other] + 1 || had[other] == lens[other], "in turn");
            }
        }
        prop_assert!(queue.is_empty() && queue.callers() == 0);
    }
}
