"""The architecture picker: wishes, rules, and a ranking of the zoo's own records."""

from zoo.picking.answer import Answer, pick
from zoo.picking.rules import RULES, rules_table
from zoo.picking.wishes import APPROACHES, MOTION, Wishes

__all__ = ["APPROACHES", "MOTION", "RULES", "Answer", "Wishes", "pick", "rules_table"]
