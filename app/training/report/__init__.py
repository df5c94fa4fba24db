"""What training, evaluations and back-tests write for people: reports and model cards.

Words and tables are templates (`templates/`); what is inserted into them is escaped.
"""
