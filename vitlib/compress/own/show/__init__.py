"""What a notebook shows of an own model: tables, figures, sentences, an explorer."""
