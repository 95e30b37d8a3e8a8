"""What an evaluation and a policy look like to a person: tables, sentences and figures."""
