"""What keeps the broker in shape and tells how it is: retention, descriptions, figures for monitors."""
