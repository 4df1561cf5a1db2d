"""A package of somebody else, whose model `zoo.create` builds; installed by the tests."""
