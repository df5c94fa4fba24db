"""What routes are made of: keys, bodies, places, deadlines, pages and problems."""
