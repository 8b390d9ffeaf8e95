//! Stories of the store, told to a fresh database of each kind. A new entity brings a module.

mod story {
    mod changes;
    mod feeds;
    mod findings;
    mod frame;
    mod inventories;
    mod hosts;
    mod people;
}
