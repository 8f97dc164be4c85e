"""Labels by people: a local web page that shows documents one by one, and a journal that loses no answer."""
