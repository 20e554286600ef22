-- Which content this is.
return instance()
