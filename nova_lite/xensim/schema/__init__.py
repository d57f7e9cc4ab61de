"""What XenServer's classes are: fields, calls, enumerations, relations, errors. Text that `xensim.model` reads."""
