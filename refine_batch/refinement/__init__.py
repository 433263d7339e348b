"""The refinement of instances, stage by stage: prepare, optimise, conclude."""
