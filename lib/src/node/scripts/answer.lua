-- The end of every call that goes by the rules of locks.
return answers
