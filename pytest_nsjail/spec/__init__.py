"""What a user can declare: frozen values that check themselves when they are made."""
