"""Labels by language models and people: rubrics, engines, panels, agreement."""
